{{/* The first part of every name: pushrail-worker, pushrail-ingest, ... */}}
{{- define "pushrail.name" -}}
{{- .Values.nameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The programs that run all the time, separated by spaces. */}}
{{- define "pushrail.programs" -}}
{{- ternary "worker ingest" "worker" .Values.ingest.enabled -}}
{{- end -}}

{{/* Labels of one program's objects, which selectors use too. Takes the root and the program. */}}
{{- define "pushrail.labels" -}}
{{- $root := index . 0 -}}
{ app.kubernetes.io/name: pushrail-stream, app.kubernetes.io/instance: {{ include "pushrail.name" $root | quote }}, app.kubernetes.io/component: {{ index . 1 }} }
{{- end -}}

{{/* Labels of objects that belong to no program. */}}
{{- define "pushrail.commonLabels" -}}
{ app.kubernetes.io/name: pushrail-stream, app.kubernetes.io/instance: {{ include "pushrail.name" . | quote }} }
{{- end -}}

{{/* The settings file: those of the values, over those that follow from the pods. */}}
{{- define "pushrail.settings" -}}
{{- $ours := dict "http" (dict "host" "0.0.0.0") "ingest" (dict "host" "0.0.0.0" "keys_file" "/etc/pushrail/ingest-keys/ingest-keys.json") -}}
{{- if .Values.secrets.keyring -}}
{{- $_ := set $ours "secrets" (dict "keyring" "/etc/pushrail/keyring/keyring.json") -}}
{{- end -}}
{{- toYaml (mergeOverwrite $ours (deepCopy .Values.settings)) -}}
{{- end -}}

{{/* The name of a program's ServiceAccount. Takes the root and the program. */}}
{{- define "pushrail.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $account := (index $root.Values (index . 1)).serviceAccount -}}
{{- $account.name | default (printf "%s-%s" (include "pushrail.name" $root) (index . 1)) -}}
{{- end -}}

{{/* The template of one program's pods, beginning at its metadata. Takes the root, the program and its arguments. */}}
{{- define "pushrail.pod" -}}
{{- $root := index . 0 -}}
{{- $program := index . 1 -}}
{{- /* The Job that creates topics reaches Kafka as a worker does. */ -}}
{{- $owner := ternary "worker" $program (eq $program "topics") -}}
{{- $own := index $root.Values $owner -}}
{{- $labels := include "pushrail.labels" (list $root $program) -}}
{{- $image := $root.Values.image -}}
metadata:
  labels: {{ merge ($labels | fromYaml) $own.podLabels | toJson }}
  annotations:
    # Pods read the settings at their start only.
    checksum/settings: {{ include "pushrail.settings" $root | sha256sum }}
    {{- with $own.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pushrail.serviceAccount" (list $root $owner) }}
  {{- with $image.pullSecrets }}
  imagePullSecrets: {{ toJson . }}
  {{- end }}
  {{- with $own.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $own.nodeSelector }}
  nodeSelector: {{ toJson . }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations: {{ toJson . }}
  {{- end }}
  {{- with $own.affinity }}
  affinity: {{ toJson . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: { type: RuntimeDefault }
  {{- if eq $program "topics" }}
  restartPolicy: OnFailure
  {{- else }}
  # A worker stops in 37 s at most: 10 s for calls in flight, 15 s to commit through a rebalance, 12 s for clients that do not
  # answer (Kafka, the collector of traces, a client of the ops server). Ingest gets no new requests after 5 s, and has at most
  # 20 s for the open ones.
  terminationGracePeriodSeconds: {{ $own.terminationGracePeriodSeconds }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: { matchLabels: {{ $labels }} }
  {{- end }}
  containers:
    - name: {{ $program }}
      image: {{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
      imagePullPolicy: {{ $image.pullPolicy }}
      args: {{ index . 2 | toJson }}
      env:
        - { name: PUSHRAIL_CONFIG, value: /etc/pushrail/pushrail.yaml }
        {{- if and (eq $program "worker") (eq $own.kind "StatefulSet") }}
        # Static membership: the pod keeps its name, and with it its partitions, when it restarts.
        - { name: PUSHRAIL_KAFKA__GROUP_INSTANCE_ID, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
        {{- end }}
        {{- with $own.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- $sources := $own.envFrom }}
      {{- with $root.Values.secrets.kafka }}
      {{- $sources = prepend $sources (dict "secretRef" (dict "name" .)) }}
      {{- end }}
      {{- with $sources }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if ne $program "topics" }}
      ports:
        - { name: ops, containerPort: {{ dig "http" "port" 9464 $root.Values.settings | int }} }
        {{- if eq $program "ingest" }}
        - { name: events, containerPort: {{ dig "ingest" "port" 8080 $root.Values.settings | int }} }
        {{- end }}
      # Live: the event loop runs. Ready: the program is in touch with Kafka. A rollout waits for it.
      startupProbe: { httpGet: { path: /livez, port: ops }, periodSeconds: 2, failureThreshold: 60 }
      livenessProbe: { httpGet: { path: /livez, port: ops }, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 }
      readinessProbe: { httpGet: { path: /readyz, port: ops }, periodSeconds: 5, timeoutSeconds: 3 }
      {{- if eq $program "ingest" }}
      # Until no load balancer sends new requests.
      lifecycle: { preStop: { exec: { command: [sleep, "5"] } } }
      {{- end }}
      {{- end }}
      resources:
        {{- toYaml (index $root.Values $program).resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      volumeMounts:
        - { name: settings, mountPath: /etc/pushrail/pushrail.yaml, subPath: pushrail.yaml, readOnly: true }
        # No subPath: these mounts follow changes of their Secrets, and the programs read them again without a restart.
        {{- if and (eq $program "worker") $root.Values.secrets.keyring }}
        - { name: keyring, mountPath: /etc/pushrail/keyring, readOnly: true }
        {{- end }}
        {{- if eq $program "ingest" }}
        - { name: ingest-keys, mountPath: /etc/pushrail/ingest-keys, readOnly: true }
        {{- end }}
        - { name: tmp, mountPath: /tmp }
        {{- with $own.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - { name: settings, configMap: { name: {{ include "pushrail.name" $root }}-settings } }
    {{- if and (eq $program "worker") $root.Values.secrets.keyring }}
    - { name: keyring, secret: { secretName: {{ $root.Values.secrets.keyring }}, defaultMode: 0440 } }
    {{- end }}
    {{- if eq $program "ingest" }}
    - { name: ingest-keys, secret: { secretName: {{ $root.Values.secrets.ingestKeys }}, defaultMode: 0440 } }
    {{- end }}
    - { name: tmp, emptyDir: { sizeLimit: 16Mi } }
    {{- with $own.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* How fast an autoscaler may change the number of workers: each change moves partitions. */}}
{{- define "pushrail.behavior" -}}
{ scaleUp: { policies: [{ type: Pods, value: 2, periodSeconds: 60 }] }, scaleDown: { stabilizationWindowSeconds: 600, policies: [{ type: Pods, value: 1, periodSeconds: 120 }] } }
{{- end -}}
