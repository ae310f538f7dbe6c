{{- define "mirrorflow.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "mirrorflow.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "mirrorflow.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mirrorflow.selector" -}}
app.kubernetes.io/name: {{ include "mirrorflow.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mirrorflow.labels" -}}
{{ include "mirrorflow.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mirrorflow.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{- define "mirrorflow.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mirrorflow.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mirrorflow.claim" -}}
{{- default (include "mirrorflow.fullname" .) .Values.persistence.existingClaim -}}
{{- end -}}

{{- /* What several pods would do with a volume that one node has, or without a server that all know. */ -}}
{{- define "mirrorflow.check" -}}
{{- $shared := has "ReadWriteMany" .Values.persistence.accessModes -}}
{{- if and (or .Values.serve.replicas .Values.workers.replicas) (not $shared) -}}
{{- fail "serve.replicas and workers.replicas need persistence.accessModes: [ReadWriteMany]: several pods use the store" -}}
{{- end -}}
{{- if and .Values.workers.replicas (not .Values.prefect.apiUrl) -}}
{{- fail "workers.replicas needs prefect.apiUrl: workers take their runs from a Prefect server that all of them reach" -}}
{{- end -}}
{{- if and .Values.prefect.ui.enabled .Values.prefect.apiUrl -}}
{{- fail "prefect.ui is that of the mirror's own Prefect server, and prefect.apiUrl names another: drop one of the two" -}}
{{- end -}}
{{- end -}}

{{- define "mirrorflow.podMetadata" -}}
labels:
  {{- include "mirrorflow.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- if has .component (list "mirror" "serve") }}
  mirrorflow/serves: "yes"
  {{- end }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  {{- if not .root.Values.existingConfigMap }}
  checksum/profile: {{ toYaml .root.Values.profile | sha256sum }}
  {{- end }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "mirrorflow.podSpec" -}}
serviceAccountName: {{ include "mirrorflow.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: store
    persistentVolumeClaim: {claimName: {{ include "mirrorflow.claim" . }}}
  - name: tmp
    emptyDir: {}
  - name: profile
    configMap: {name: {{ default (include "mirrorflow.fullname" .) .Values.existingConfigMap }}}
  {{- with .Values.credentials.existingSecret }}
  - name: credentials
    secret: {secretName: {{ . }}}
  {{- end }}
  {{- range .Values.secrets }}
  - name: secret-{{ . }}
    secret: {secretName: {{ . }}}
  {{- end }}
{{- end -}}

{{- define "mirrorflow.container" -}}
image: {{ include "mirrorflow.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
env:
  - {name: MIRRORFLOW_PROFILE, value: /etc/mirrorflow/profile/profile.yaml}
  - {name: MIRRORFLOW_ROOT_DIRECTORY, value: /data}
  - {name: MIRRORFLOW_HTTP_ADDRESS, value: 0.0.0.0}
  - {name: MIRRORFLOW_HTTP_PORT, value: "8080"}
  - {name: HOME, value: /tmp}
  {{- if .Values.credentials.existingSecret }}
  - {name: MIRRORFLOW_CREDENTIALS_FILE, value: {{ printf "/etc/mirrorflow/credentials/%s" .Values.credentials.key }}}
  {{- end }}
  {{- if .Values.prefect.apiUrl }}
  - {name: PREFECT_API_URL, value: {{ .Values.prefect.apiUrl | quote }}}
  - {name: PREFECT_HOME, value: /tmp/prefect}
  {{- else if .Values.prefect.ui.enabled }}
  - {name: MIRRORFLOW_PREFECT_HOST, value: 0.0.0.0}
  - {name: MIRRORFLOW_PREFECT_PORT, value: "4200"}
  {{- end }}
  {{- with .Values.prefect.authSecret }}
  {{- range list "PREFECT_API_AUTH_STRING" "PREFECT_SERVER_API_AUTH_STRING" }}
  - name: {{ . }}
    valueFrom: {secretKeyRef: {name: {{ $.Values.prefect.authSecret }}, key: PREFECT_API_AUTH_STRING}}
  {{- end }}
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - {name: store, mountPath: /data}
  - {name: tmp, mountPath: /tmp}
  - {name: profile, mountPath: /etc/mirrorflow/profile, readOnly: true}
  {{- if .Values.credentials.existingSecret }}
  - {name: credentials, mountPath: /etc/mirrorflow/credentials, readOnly: true}
  {{- end }}
  {{- range .Values.secrets }}
  - {name: secret-{{ . }}, mountPath: /etc/mirrorflow/secrets/{{ . }}, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "mirrorflow.serving" -}}
ports:
  - {name: http, containerPort: 8080}
startupProbe:
  httpGet: {path: /livez, port: http, scheme: {{ ternary "HTTPS" "HTTP" .Values.service.tls }}}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http, scheme: {{ ternary "HTTPS" "HTTP" .Values.service.tls }}}
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ ternary "HTTPS" "HTTP" .Values.service.tls }}}
  timeoutSeconds: 5
{{- end -}}
