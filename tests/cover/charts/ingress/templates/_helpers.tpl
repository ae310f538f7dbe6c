{{- define "ingress.image" -}}
{{ .registry }}/{{ .image }}:{{ .tag }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
