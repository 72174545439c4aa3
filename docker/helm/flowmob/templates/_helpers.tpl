{{- define "flowmob.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes of a release: also the selector of its one pod. */}}
{{- define "flowmob.selector" -}}
app.kubernetes.io/name: flowmob
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.role }}
{{- end -}}

{{- define "flowmob.labels" -}}
{{ include "flowmob.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "flowmob.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "flowmob.tokenSecret" -}}
{{ default (printf "%s-token" (include "flowmob.fullname" .)) .Values.api.tokenSecret }}
{{- end -}}

{{/* The kinds of devices in the configuration, comments left out: "pci af_packet". */}}
{{- define "flowmob.devices" -}}
{{- $kinds := list -}}
{{- range regexFindAll "(?m)^[^#\\n]*?\\bdevice\\s*=\\s*[\"'][a-z_]+|[,{]\\s*device\\s*=\\s*[\"'][a-z_]+" .Values.config -1 -}}
{{- $kinds = append $kinds (regexFind "[a-z_]+$" .) -}}
{{- end -}}
{{- join " " (uniq $kinds) -}}
{{- end -}}

{{/* Exactly the capabilities that these ask for, and the values' own. */}}
{{- define "flowmob.capabilities" -}}
{{- $asked := dict
  "pci" (list "IPC_LOCK")
  "af_packet" (list "NET_RAW" "NET_ADMIN")
  "af_xdp" (list "NET_RAW" "NET_ADMIN" "SYS_ADMIN" "IPC_LOCK")
  "tap" (list "NET_ADMIN") -}}
{{- $all := .Values.security.extraCapabilities -}}
{{- range splitList " " (include "flowmob.devices" .) -}}
{{- $all = concat $all (get $asked . | default list) -}}
{{- end -}}
{{- join " " (uniq $all | sortAlpha) -}}
{{- end -}}

{{- define "flowmob.user" -}}
{{- if kindIs "invalid" .Values.security.user -}}
{{- ternary "0" "64000" (ne (include "flowmob.capabilities" .) "") -}}
{{- else -}}
{{- .Values.security.user | int -}}
{{- end -}}
{{- end -}}

{{/* The configuration of the ConfigMap: the operator's, and the API. */}}
{{- define "flowmob.config" -}}
{{ .Values.config | trimSuffix "\n" }}

[management]
socket = "/run/flowmob/flowmob.sock"
tcp = "{{ .Values.api.address }}:{{ .Values.api.port | int }}"
token_file = "token"
{{- end -}}

{{- define "flowmob.scripts" -}}
{{- $files := .Files -}}
{{- range list "common.sh" "start.sh" "reload.sh" }}
{{ . }}: |
  {{- $files.Get (printf "files/%s" .) | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "flowmob.networks" -}}
{{- $fullname := include "flowmob.fullname" . -}}
{{- $all := list -}}
{{- range .Values.networks -}}
{{- $one := dict "name" (ternary (printf "%s-%s" $fullname .name) .name (hasKey . "definition")) -}}
{{- with .namespace }}{{ $_ := set $one "namespace" . }}{{ end -}}
{{- with .interface }}{{ $_ := set $one "interface" . }}{{ end -}}
{{- $all = append $all $one -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* Requests, which are the limits: cores, memory, pages, one device for each network that has a resource. */}}
{{- define "flowmob.resources" -}}
{{- $all := dict "cpu" (.Values.resources.cpu | int | toString) "memory" .Values.resources.memory -}}
{{- if .Values.hugepages.size -}}
{{- $_ := set $all (printf "hugepages-%s" .Values.hugepages.size) .Values.hugepages.amount -}}
{{- end -}}
{{- range .Values.networks -}}
{{- if .resource -}}
{{- $_ := set $all .resource (add1 (get $all .resource | default "0" | int) | toString) -}}
{{- end -}}
{{- end -}}
{{- range $name, $amount := .Values.extraResources -}}
{{- $_ := set $all $name (ternary (int $amount) $amount (kindIs "float64" $amount) | toString) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* A quantity in MiB; of other units than these, more than anybody has. */}}
{{- define "flowmob.mib" -}}
{{- if hasSuffix "Gi" . -}}
{{- mul 1024 (trimSuffix "Gi" . | int64) -}}
{{- else -}}
{{- ternary (trimSuffix "Mi" . | int64) 1073741824 (hasSuffix "Mi" .) -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot see: values that contradict each other. */}}
{{- define "flowmob.check" -}}
{{- $config := .Values.config -}}
{{- if not (regexMatch (printf "(?m)^\\s*\\[%s\\]" .Values.role) $config) -}}
{{- fail (printf "role is %s, but config has no section [%s]" .Values.role .Values.role) -}}
{{- end -}}
{{- if regexMatch "(?m)^\\s*(\\[management[.\\]]|management\\s*[.=])" $config -}}
{{- fail "config has a section [management]: leave it out, the chart adds it from the values `api`" -}}
{{- end -}}
{{- $pages := regexMatch "(?m)^[^#\\n]*\\bmemory\\s*=\\s*[\"']hugepages[\"']" $config -}}
{{- if and .Values.hugepages.size (not $pages) -}}
{{- fail "hugepages.size is set, but config does not say memory = \"hugepages\" in [process]: the pages would lie idle" -}}
{{- end -}}
{{- if and $pages (not .Values.hugepages.size) -}}
{{- fail "config says memory = \"hugepages\", but hugepages.size is empty: the pod would be given none" -}}
{{- end -}}
{{- $line := regexFind "(?m)^[^#\\n]*\\bmemory_mib\\s*=\\s*[0-9_]+" $config -}}
{{- $mib := ternary (regexFind "[0-9_]+$" $line | replace "_" "") "256" (ne $line "") | int64 -}}
{{- if and $pages (gt $mib (include "flowmob.mib" .Values.hugepages.amount | int64)) -}}
{{- fail (printf "config takes %d MiB of pages (memory_mib), but hugepages.amount is %s" $mib .Values.hugepages.amount) -}}
{{- end -}}
{{- if and (not $pages) (ge $mib (include "flowmob.mib" .Values.resources.memory | int64)) -}}
{{- fail (printf "config takes %d MiB (memory_mib), which leaves nothing of resources.memory, %s, for tables" $mib .Values.resources.memory) -}}
{{- end -}}
{{- $keys := regexMatch "(?m)^[^#\\n]*\\bkeys\\s*=" $config -}}
{{- if and $keys (not .Values.keys.secret) -}}
{{- fail "config names key files, but keys.secret names no Secret that has them" -}}
{{- end -}}
{{- if and $keys (not .Values.persistence.enabled) -}}
{{- fail "keys need persistence.enabled: without the sequence numbers that they have used, they may not be used again" -}}
{{- end -}}
{{- if and (ne (include "flowmob.user" .) "0") (include "flowmob.capabilities" .) (not .Values.security.fileCapabilities) -}}
{{- fail (printf "security.user is not root, and would not have the capabilities that the ports need (%s): leave it out, or say security.fileCapabilities if /usr/bin/flowmob of the image has them" (include "flowmob.capabilities" .)) -}}
{{- end -}}
{{- end -}}

{{/* What both containers see. */}}
{{- define "flowmob.mounts" -}}
- name: config
  mountPath: /etc/flowmob/config
  readOnly: true
- name: scripts
  mountPath: /usr/local/lib/flowmob
  readOnly: true
{{- if .Values.keys.secret }}
- name: keys
  mountPath: /etc/flowmob/keys
  readOnly: true
{{- end }}
- name: run
  mountPath: /run/flowmob
{{- end -}}
