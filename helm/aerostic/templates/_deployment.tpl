{{/*
A process's Deployment: (dict "root" $ "process" name "facts" facts "component" component "name" name), and as wanted
"replicas" (none: whoever scales it has them), "labels" that select its pods too, "env", "resources".
*/}}
{{- define "aerostic.deployment" -}}
{{- $root := .root }}{{ $name := .process }}{{ $facts := .facts }}{{ $component := .component }}{{ $labels := .labels }}
{{- $names := include "aerostic.fullname" $root }}
{{- $process := get $root.Values.processes $name }}
{{- $trusted := (include "aerostic.secretsPlan" $root | fromYaml).trust | toJson | sha256sum | trunc 16 | quote }}
{{- $sleep := int $root.Values.preStopSeconds }}
{{- $mounted := and $facts.isOperator (include "aerostic.dedicatedWorkers" $root) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "aerostic.metadata" (list $root .name $component) | nindent 2 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  {{- if $facts.isSingle }}
  strategy:
    type: Recreate
  {{- else }}
  strategy:
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 1
  {{- end }}
  selector:
    matchLabels:
      {{- include "aerostic.selector" (list $root $component) | nindent 6 }}
      {{- with .labels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  template:
    metadata:
      labels:
        {{- include "aerostic.labels" (list $root $component) | nindent 8 }}
        {{- with .labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $process.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # A process reads its secrets once: change this to start all pods anew after a rotation.
        aerostic.io/secrets-version: {{ $root.Values.secrets.version | quote }}
        {{- if hasKey $facts.secrets "AEROSTIC_SERVICE_TRUST" }}
        # Nor does it read anew whom to trust: processes that a release brings or takes away change the list.
        aerostic.io/trusted-processes: {{ $trusted }}
        {{- end }}
        {{- with $process.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- if $facts.isOperator }}
      serviceAccountName: {{ $names }}-operator
      automountServiceAccountToken: true
      {{- else }}
      serviceAccountName: {{ $names }}
      automountServiceAccountToken: false
      {{- end }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ add $sleep $facts.drain 10 }}
      securityContext:
        {{- include "aerostic.podSecurity" 10001 | nindent 8 }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with default $root.Values.priorityClassName $process.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $process.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $process.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $process.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: {{ $root.Values.topologySpread }}
          labelSelector:
            matchLabels:
              {{- include "aerostic.selector" (list $root $component) | nindent 14 }}
              {{- with $labels }}
              {{- toYaml . | nindent 14 }}
              {{- end }}
        {{- end }}
      {{- with $facts.gate }}
      initContainers:
        - name: schema
          image: {{ include "aerostic.image" (list $root $facts.room) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [python, -m, kit.migrations.gate, {{ index . 0 }}, {{ index . 1 }}]
          env:
            - name: {{ index . 1 }}
              valueFrom:
                secretKeyRef:
                  name: {{ include "aerostic.secretOf" (list $root (index . 1)) }}
                  key: {{ index . 1 }}
          securityContext:
            {{- include "aerostic.containerSecurity" . | nindent 12 }}
          resources:
            {{- toYaml $root.Values.migrations.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
      {{- end }}
      containers:
        - name: {{ $name }}
          image: {{ include "aerostic.image" (list $root $facts.room) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: {{ toJson $facts.args }}
          env:
            {{- include "aerostic.env" (list $root $name $facts) | nindent 12 }}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- with $process.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- with $facts.grpc }}
            - {name: grpc, containerPort: {{ . }}}
            {{- end }}
            - {name: http, containerPort: {{ $facts.http }}}
          {{- if eq $facts.probe "grpc" }}
          startupProbe:
            grpc: {port: {{ $facts.grpc }}}
            periodSeconds: 2
            failureThreshold: 60
          livenessProbe:
            grpc: {port: {{ $facts.grpc }}}
            periodSeconds: 15
            timeoutSeconds: 5
            failureThreshold: 4
          readinessProbe:
            grpc: {port: {{ $facts.grpc }}}
            periodSeconds: 5
            timeoutSeconds: 3
          {{- else }}
          startupProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 2
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 15
            timeoutSeconds: 5
            failureThreshold: 4
          readinessProbe:
            httpGet: {path: {{ default "/readyz" $facts.health }}, port: http}
            periodSeconds: 5
            timeoutSeconds: 3
          {{- end }}
          lifecycle:
            preStop:
              sleep: {seconds: {{ $sleep }}}
          resources:
            {{- toYaml (default $process.resources .resources) | nindent 12 }}
          securityContext:
            {{- include "aerostic.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- with $mounted }}
            - {name: workers, mountPath: /etc/aerostic/workers, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 256Mi}
        {{- with $mounted }}
        - name: workers
          configMap: {name: {{ . }}}
        {{- end }}
{{- end }}
