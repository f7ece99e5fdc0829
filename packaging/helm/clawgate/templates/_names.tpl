{{- define "clawgate.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "clawgate.selector" -}}
app.kubernetes.io/name: clawgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "clawgate.labels" -}}
{{ include "clawgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "clawgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "clawgate.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "clawgate.mounts" -}}
- { name: data, mountPath: /var/lib/clawgate }
- { name: config, mountPath: /etc/clawgate, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- with .Values.secretName }}
- { name: secrets, mountPath: /etc/clawgate/secrets, readOnly: true }
{{- end }}
{{- with .Values.tls.agentSecretName }}
- { name: agent-tls, mountPath: /etc/clawgate/tls/agent, readOnly: true }
{{- end }}
{{- with .Values.tls.operatorSecretName }}
- { name: operator-tls, mountPath: /etc/clawgate/tls/operator, readOnly: true }
{{- end }}
{{- end }}
