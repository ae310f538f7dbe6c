{{- define "database.image" -}}
{{- $registry := .global.imageRegistry | default .image.registry -}}
{{ $registry }}/{{ .image.repository }}:{{ .image.tag }}
{{- end -}}
