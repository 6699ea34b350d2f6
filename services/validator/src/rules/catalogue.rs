//! The one table of all rules: what a finding may be called, how grave it is and what it means.
//!
//! An id is "MW" and four digits. The first digit is the layer (1 syntax, 2 schema, 3 semantic and admission, 4 references,
//! 5 conflicts), the second the mesh (0 shared, 1 Istio, 2 Linkerd; 5 is Istio again, where 31xx is full). Ids and slugs are a promise to scripts and dashboards: they never
//! change their meaning, and the number of a rule that is gone is not used again.

use meshward_model::Severity::{self, Error, Info, Warning};

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// "MW" and four digits.
    pub id: &'static str,
    /// Readable name, e.g. "syntax/duplicate-key".
    pub slug: &'static str,
    /// What other tools call it: istioctl's and Kiali's codes, Linkerd's reasons.
    pub aliases: &'static [&'static str],
    /// How grave its findings are.
    pub severity: Severity,
    /// One line for people.
    pub doc: &'static str,
}

impl Rule {
    /// The page that explains it, as a path in the repository.
    #[must_use]
    pub fn doc_link(&self) -> String {
        format!("{DOCS}#{}", self.id.to_ascii_lowercase())
    }
}

/// The page with all rules.
pub const DOCS: &str = "services/validator/docs/rules.md";

/// What istioctl calls everything that Istio's own validation refuses.
const REFUSED: &[&str] = &["IST0106"];
/// What istioctl calls everything that Istio's own validation warns of.
const WARNED: &[&str] = &["IST0133"];

/// Declares each rule as a constant and [`ALL`] of them, so that no constant can be missing from the table.
macro_rules! rules {
    ($($name:ident = $id:literal, $slug:literal, $severity:ident, $aliases:expr, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $name: &Rule =
            &Rule { id: $id, slug: $slug, aliases: $aliases, severity: $severity, doc: $doc };)*
        /// Every rule, by rising id.
        pub const ALL: &[&Rule] = &[$($name),*];
    };
}

rules! {
    TOO_LARGE = "MW1001", "syntax/too-large", Error, &[], "The text is larger than 1 MiB.";
    TOO_DEEP = "MW1002", "syntax/too-deep", Error, &[], "Values are nested deeper than 64 levels.";
    TOO_MANY_NODES = "MW1003", "syntax/too-many-values", Error, &[], "Aliases expanded, the text has more values than allowed.";
    TOO_MANY_DOCUMENTS = "MW1004", "syntax/too-many-documents", Error, &[], "The text has more than 1,000 documents.";
    NOT_UTF8 = "MW1005", "syntax/not-utf8", Error, &[], "The text is not UTF-8.";
    CONTROL_CHARACTER = "MW1006", "syntax/control-character", Error, &[], "A character that YAML does not allow.";
    BYTE_ORDER_MARK = "MW1007", "syntax/byte-order-mark", Warning, &[], "The text begins with a byte order mark.";
    NO_OBJECT = "MW1008", "syntax/no-object", Error, &[], "The text holds no object.";
    MALFORMED = "MW1009", "syntax/malformed", Error, &[], "The text is not YAML.";
    DUPLICATE_KEY = "MW1010", "syntax/duplicate-key", Error, &[], "A key occurs twice in one mapping.";
    KEY_NOT_TEXT = "MW1011", "syntax/key-not-text", Error, &[], "A key is null, a list or a mapping.";
    SELF_REFERENCE = "MW1012", "syntax/self-reference", Error, &[], "An alias stands inside the value that it refers to.";
    UNKNOWN_ALIAS = "MW1013", "syntax/unknown-alias", Error, &[], "An alias refers to an anchor that is not defined before.";
    BAD_MERGE = "MW1014", "syntax/bad-merge", Error, &[], "A merge key refers to something that is no mapping.";
    NOT_A_MAPPING = "MW1015", "syntax/not-a-mapping", Error, &[], "A document is not a mapping.";
    BAD_TAG = "MW1016", "syntax/unsupported-tag", Error, &[], "A tag that has no meaning in JSON.";
    NOT_FINITE = "MW1017", "syntax/not-finite", Error, &[], "A number that JSON cannot hold.";
    TAB = "MW1018", "syntax/tab", Error, &[], "A tab stands where YAML wants spaces.";
    UNTERMINATED_QUOTE = "MW1019", "syntax/unterminated-quote", Error, &[], "A quoted text does not end.";
    IMPLICIT_BOOLEAN = "MW1020", "syntax/implicit-boolean", Warning, &[], "An unquoted word that is read as a boolean.";
    IMPLICIT_NUMBER = "MW1021", "syntax/implicit-number", Warning, &[], "An unquoted number that is read as another one.";
    KEY_CONVERTED = "MW1022", "syntax/converted-key", Warning, &[], "An unquoted key that is read as another text.";
    MORE_FINDINGS = "MW1099", "syntax/more-findings", Info, &[], "There are more findings than are listed.";

    NOT_A_POLICY = "MW2001", "schema/not-a-policy", Error, &[], "The object is not of a kind that Meshward governs.";
    UNKNOWN_KIND = "MW2002", "schema/unknown-kind", Error, &[], "The API group has no such kind.";
    UNKNOWN_VERSION = "MW2003", "schema/unknown-version", Error, &[], "The kind is not served in this version.";
    UNKNOWN_FIELD = "MW2004", "schema/unknown-field", Error, &[], "A field that the kind does not have.";
    REQUIRED = "MW2005", "schema/required", Error, &[], "A required field is missing.";
    TYPE = "MW2006", "schema/type", Error, &[], "A value is of the wrong type.";
    ENUM = "MW2007", "schema/enum", Error, &[], "A value is not one of the allowed ones.";
    PATTERN = "MW2008", "schema/pattern", Error, &[], "A text does not have the demanded form.";
    BOUNDS = "MW2009", "schema/bounds", Error, &[], "A number, text, list or mapping is too small or too large.";
    ONE_OF = "MW2010", "schema/one-of", Error, &[], "Fields exclude each other, or none of a group is set.";
    OTHER_SCHEMA = "MW2011", "schema/other", Error, &[], "The schema refuses the value for another reason.";
    HEAD = "MW2012", "schema/head", Error, &[], "apiVersion, kind, metadata or metadata.name is missing or no text.";
    NAME = "MW2013", "schema/name", Error, &[], "The name or namespace is not one that Kubernetes allows.";
    DEFINITION_RULE = "MW2014", "schema/rule", Error, &[], "A rule of the kind's definition (x-kubernetes-validations) does not hold.";

    ADMISSION_REFUSED = "MW3001", "admission/refused", Error, &[], "The cluster refuses the object.";
    ADMISSION_WARNING = "MW3002", "admission/warning", Warning, &[], "The cluster warns of the object.";
    NAMESPACE_MISSING = "MW3003", "object/namespace-missing", Error, &[], "Meshward needs metadata.namespace.";

    SUPPRESSION_MALFORMED = "MW3004", "object/suppression-malformed", Warning, &[], "A suppression has no reason, no day on which it ends, or names a rule that cannot be suppressed.";
    SUPPRESSION_EXPIRED = "MW3005", "object/suppression-expired", Warning, &[], "A suppression has expired, and no longer hides anything.";
    CONTEXT_UNREADABLE = "MW3006", "object/context-unreadable", Warning, &[], "A text of the context could not be read to its end, so objects may be missing.";

    VS_DELEGATE = "MW3101", "istio/virtual-service/delegate", Error, REFUSED, "A VirtualService without hosts is a delegate, which has no gateways, tls or tcp.";
    VS_HOST = "MW3102", "istio/virtual-service/host", Error, REFUSED, "A host is no DNS name, wildcard or IP address.";
    VS_HOST_WILDCARD = "MW3103", "istio/virtual-service/wildcard-on-mesh", Error, REFUSED, "The host * is for gateways only.";
    VS_HOST_DUPLICATE = "MW3104", "istio/virtual-service/duplicate-host", Error, REFUSED, "Two hosts are the same, or a wildcard covers the other.";
    VS_NO_ROUTES = "MW3105", "istio/virtual-service/no-routes", Error, REFUSED, "There is no http, tls or tcp route.";
    VS_ACTION_CONFLICT = "MW3106", "istio/virtual-service/action-conflict", Error, REFUSED, "Fields of a route exclude each other.";
    VS_ACTION_MISSING = "MW3107", "istio/virtual-service/action-missing", Error, REFUSED, "A route says nothing of what to do.";
    VS_DESTINATION = "MW3108", "istio/virtual-service/destination", Error, REFUSED, "A destination is missing or its host is no DNS name.";
    VS_WEIGHT = "MW3109", "istio/virtual-service/weight", Error, REFUSED, "A weight is negative or too large.";
    VS_WEIGHT_SUM = "MW3110", "istio/virtual-service/weight-sum", Error, REFUSED, "The weights of several destinations sum up to 0.";
    VS_PERCENTAGE = "MW3111", "istio/virtual-service/percentage", Error, REFUSED, "A percentage is out of range.";
    VS_FAULT = "MW3112", "istio/virtual-service/fault", Error, REFUSED, "A fault has neither abort nor delay, or a kind that Istio does not do.";
    VS_STATUS = "MW3113", "istio/virtual-service/status", Error, REFUSED, "A status code is out of range or a gRPC status is unknown.";
    VS_REDIRECT = "MW3114", "istio/virtual-service/redirect", Error, REFUSED, "A redirect is incomplete or contradicts itself.";
    VS_REWRITE = "MW3115", "istio/virtual-service/rewrite", Error, REFUSED, "A rewrite is incomplete or contradicts itself.";
    VS_RETRIES = "MW3116", "istio/virtual-service/retries", Error, REFUSED, "Retries contradict themselves.";
    VS_RETRY_ON = "MW3117", "istio/virtual-service/retry-on", Error, REFUSED, "An unknown condition in retryOn.";
    VS_MATCH = "MW3118", "istio/virtual-service/match", Error, REFUSED, "A match is empty where Envoy needs a text.";
    VS_HEADER_NAME = "MW3119", "istio/virtual-service/header-name", Error, REFUSED, "A header name is empty, malformed or reserved.";
    VS_HEADER_VALUE = "MW3120", "istio/virtual-service/header-value", Error, REFUSED, "A header value has control characters or a % that does not end.";
    VS_AUTHORITY = "MW3121", "istio/virtual-service/authority-twice", Error, REFUSED, "The authority is set more than once.";
    VS_CORS = "MW3122", "istio/virtual-service/cors", Error, REFUSED, "A CORS policy has an unusable origin, method or age.";
    VS_GATEWAY = "MW3123", "istio/virtual-service/gateway-name", Error, REFUSED, "A gateway name is malformed.";
    VS_TLS_MATCH = "MW3124", "istio/virtual-service/tls-match", Error, REFUSED, "A TLS route needs SNI hosts within the hosts of the VirtualService.";
    VS_JWT_CLAIM = "MW3125", "istio/virtual-service/jwt-claim-on-mesh", Error, REFUSED, "Matching JWT claims works on gateways only.";
    VS_BODY = "MW3126", "istio/virtual-service/body-too-large", Error, REFUSED, "The body of a direct response is larger than 1 MB.";
    VS_UNREACHABLE = "MW3127", "istio/virtual-service/unreachable-route", Warning, &["IST0130"], "A route stands behind one that takes every request.";
    VS_DEPRECATED = "MW3128", "istio/virtual-service/deprecated", Warning, WARNED, "A deprecated field or form.";
    VS_ABORT_EMPTY = "MW3129", "istio/virtual-service/abort-without-status", Warning, WARNED, "An abort without a status.";

    AP_ACTION = "MW3130", "istio/authorization-policy/action", Error, REFUSED, "An action lacks rules or a provider, or has one that it cannot have.";
    AP_CUSTOM = "MW3131", "istio/authorization-policy/custom", Error, REFUSED, "A CUSTOM rule asks for an identity, which is not known yet.";
    AP_EMPTY = "MW3132", "istio/authorization-policy/empty", Error, REFUSED, "A source or operation is missing or says nothing.";
    AP_VALUE = "MW3133", "istio/authorization-policy/value", Error, REFUSED, "A value is empty or malformed.";
    AP_CONDITION = "MW3134", "istio/authorization-policy/condition", Error, REFUSED, "A condition has no values, or a key that is no attribute.";
    AP_ACCOUNTS = "MW3135", "istio/authorization-policy/service-accounts", Error, REFUSED, "Service accounts exclude principals and namespaces.";
    AP_HTTP_ONLY = "MW3136", "istio/authorization-policy/deny-http-only", Warning, WARNED, "A DENY rule with fields of HTTP only denies everything on other ports.";
    RA_JWT = "MW3137", "istio/request-authentication/jwt-rule", Error, REFUSED, "A JWT rule is incomplete or contradicts itself.";
    RA_JWKS = "MW3138", "istio/request-authentication/jwks", Error, REFUSED, "The keys are no JSON Web Key Set.";
    PA_PORT_LEVEL = "MW3139", "istio/peer-authentication/port-level", Error, REFUSED, "Settings of ports without selected workloads.";

    DR_HOST = "MW3140", "istio/destination-rule/host", Error, REFUSED, "The host is no DNS name or wildcard.";
    DR_SUBSET = "MW3141", "istio/destination-rule/subset", Error, REFUSED, "Two subsets have one name, or a subset's labels are malformed.";
    DR_EMPTY = "MW3142", "istio/destination-rule/empty-policy", Error, REFUSED, "A traffic policy or connection pool without any field.";
    DR_LIMIT = "MW3143", "istio/destination-rule/negative-limit", Error, REFUSED, "A limit is negative.";
    DR_CONFLICT = "MW3144", "istio/destination-rule/conflict", Error, REFUSED, "Fields of a traffic policy exclude each other.";
    DR_KEEPALIVE = "MW3145", "istio/destination-rule/keepalive", Error, REFUSED, "HTTP/2 keepalive needs interval and timeout.";
    DR_PERCENT = "MW3146", "istio/destination-rule/percent", Error, REFUSED, "A percentage is out of range.";
    DR_OUTLIER = "MW3147", "istio/destination-rule/outlier-detection", Error, REFUSED, "Outlier detection contradicts itself.";
    DR_TLS = "MW3148", "istio/destination-rule/tls", Error, REFUSED, "TLS settings contradict each other or lack a certificate.";
    DR_PORT_LEVEL = "MW3149", "istio/destination-rule/port-level", Error, REFUSED, "Port-level settings without a port.";
    DR_LOAD_BALANCER = "MW3150", "istio/destination-rule/load-balancer", Error, REFUSED, "Load balancer settings contradict themselves.";
    DR_LOCALITY = "MW3151", "istio/destination-rule/locality", Error, REFUSED, "Locality settings contradict themselves.";
    DR_TUNNEL = "MW3152", "istio/destination-rule/tunnel", Error, REFUSED, "Tunnel settings are unusable.";
    DR_DEPRECATED = "MW3153", "istio/destination-rule/deprecated", Warning, WARNED, "A deprecated field.";
    DR_NO_CA = "MW3154", "istio/destination-rule/tls-without-ca", Warning, &["IST0128"], "TLS without a CA does not verify whom it talks to.";
    DR_FAILOVER = "MW3155", "istio/destination-rule/failover-without-outlier-detection", Warning, WARNED, "Failover without outlier detection.";

    TM_METRIC = "MW3156", "istio/telemetry/metric", Error, REFUSED, "An override of a metric or its tags is incomplete.";
    TM_FILTER = "MW3157", "istio/telemetry/filter", Error, REFUSED, "A filter is no CEL expression.";
    TM_PROVIDER = "MW3158", "istio/telemetry/provider", Error, REFUSED, "A provider or a tag has no name or value.";
    TM_SEVERAL = "MW3159", "istio/telemetry/several", Warning, WARNED, "Of several tracings or tracing providers, one is used.";

    DURATION = "MW3160", "istio/duration", Error, REFUSED, "A duration is malformed, below 1 ms or finer than 1 ms.";
    REGEX = "MW3161", "istio/regex", Error, REFUSED, "A regular expression is empty, too long or malformed.";
    EXPORT_TO = "MW3162", "istio/export-to", Error, REFUSED, "exportTo has a malformed, repeated or contradicting entry.";
    PORT = "MW3163", "istio/port", Error, REFUSED, "A port is not within 1 to 65535.";
    LABEL = "MW3164", "istio/label", Error, REFUSED, "A label or DNS label is malformed.";
    SUBNET = "MW3165", "istio/subnet", Error, REFUSED, "A subnet is no IP address or CIDR block.";
    EXPRESSIONS = "MW3166", "istio/too-many-regexes", Error, &[], "The object has more regular expressions than can be checked.";
    SELECTOR = "MW3167", "istio/selector", Error, REFUSED, "A label of a selector is empty or has a wildcard.";
    SELECTOR_EMPTY = "MW3168", "istio/selector-empty", Warning, WARNED, "A selector without labels selects every workload.";
    TARGET_REF = "MW3169", "istio/target-ref", Error, REFUSED, "A policy is attached to something that it cannot be attached to.";
    PROTOCOL = "MW3170", "istio/protocol", Error, REFUSED, "A protocol is unknown.";
    PORT_NAME = "MW3171", "istio/port-name", Error, REFUSED, "A port name is no DNS label.";
    BIND = "MW3172", "istio/bind", Error, REFUSED, "An address to listen on is no IP address or unix socket.";
    ANNOTATION = "MW3173", "istio/annotation", Error, REFUSED, "An annotation that Istio does not take here.";
    SERVER_TLS = "MW3174", "istio/server-tls", Error, REFUSED, "TLS settings of a server contradict each other or lack a certificate.";
    SERVER_TLS_IGNORED = "MW3175", "istio/server-tls-ignored", Warning, WARNED, "A TLS setting of a server has no effect.";
    URL = "MW3176", "istio/url", Error, REFUSED, "A URL is malformed or has an unknown scheme.";
    HEADER_NAME = "MW3177", "istio/header-name", Error, REFUSED, "A header name is empty or malformed.";

    EX_CODE = "MW3178", "istio/extension", Error, REFUSED, "An extension lacks its code, or is given what it cannot take.";
    PC_CONCURRENCY = "MW3179", "istio/proxy-config/concurrency", Error, REFUSED, "A number of threads is negative.";

    GW_SERVER = "MW3180", "istio/gateway/server", Error, REFUSED, "A Gateway without servers, a server without hosts, or an unusable name.";
    GW_HOST = "MW3181", "istio/gateway/host", Error, REFUSED, "A host is no DNS name, wildcard or IP address, or its namespace is malformed.";
    GW_PORT = "MW3182", "istio/gateway/port", Error, REFUSED, "A port is missing, has no name, or its name is there twice.";
    GW_TLS = "MW3183", "istio/gateway/tls", Error, REFUSED, "A protocol needs TLS settings, or cannot have them.";
    SC_EMPTY = "MW3184", "istio/sidecar/empty", Error, REFUSED, "A Sidecar says nothing.";
    SC_HOST = "MW3185", "istio/sidecar/host", Error, REFUSED, "A host is not of the form namespace/host.";
    SC_LISTENER = "MW3186", "istio/sidecar/listener", Error, REFUSED, "A listener has an unusable port or endpoint, or clashes with another.";
    SC_TLS = "MW3187", "istio/sidecar/tls", Error, REFUSED, "A TLS setting that a Sidecar does not support.";
    SC_EGRESS_PROXY = "MW3188", "istio/sidecar/egress-proxy", Error, REFUSED, "An egress proxy is incomplete or never used.";
    SC_REDUNDANT = "MW3189", "istio/sidecar/redundant", Warning, WARNED, "A host or setting has no effect.";
    SE_HOST = "MW3190", "istio/service-entry/host", Error, REFUSED, "A host is missing, is no DNS name, or cannot be resolved.";
    SE_PORT = "MW3191", "istio/service-entry/port", Error, REFUSED, "A port is there twice, or hosts share it that cannot be told apart.";
    SE_ENDPOINT = "MW3192", "istio/service-entry/endpoint", Error, REFUSED, "Endpoints that the resolution does not allow, or with other ports.";
    SE_RESOLUTION = "MW3193", "istio/service-entry/resolution", Error, REFUSED, "The resolution does not fit the other fields.";
    SE_WILDCARD = "MW3194", "istio/service-entry/partial-wildcard", Warning, WARNED, "A host has a wildcard that is not a whole label.";
    EF_PATCH = "MW3195", "istio/envoy-filter/patch", Error, REFUSED, "A patch is incomplete.";
    EF_MATCH = "MW3196", "istio/envoy-filter/match", Error, REFUSED, "A match does not fit what is patched.";
    EF_VALUE = "MW3197", "istio/envoy-filter/value", Error, REFUSED, "A value that Envoy cannot have.";
    WL_ADDRESS = "MW3198", "istio/workload/address", Error, REFUSED, "A workload has no address, or one that cannot be.";
    WL_PROBE = "MW3199", "istio/workload/probe", Error, REFUSED, "A readiness probe is incomplete or has a negative number.";

    LD_ACCESS_POLICY = "MW3201", "linkerd/server/access-policy", Error, &[], "A Server's accessPolicy is not one that Linkerd knows.";
    LD_SERVER_PORT = "MW3202", "linkerd/server/port", Error, &[], "A Server's port is not within 1 to 65535.";
    LD_SERVER_PORT_TEXT = "MW3203", "linkerd/server/number-as-port-name", Warning, &[], "A Server's port is a number in quotes, which is read as a port name.";
    LD_UNAUTHENTICATED = "MW3204", "linkerd/server-authorization/unauthenticated", Error, &[], "Unauthenticated clients and demands on their identity exclude each other.";
    LD_NO_CLIENT = "MW3205", "linkerd/server-authorization/no-client", Warning, &[], "A ServerAuthorization without any client, which Linkerd leaves out.";
    LD_TARGET = "MW3206", "linkerd/authorization-policy/target", Error, &[], "An AuthorizationPolicy targets something that Linkerd does not authorize.";
    LD_AUTHENTICATION = "MW3207", "linkerd/authorization-policy/authentication", Error, &[], "An authentication is of an unknown kind, or there are two of a kind.";
    LD_EVERYONE = "MW3208", "linkerd/authorization-policy/everyone", Warning, &[], "An AuthorizationPolicy without authentications lets every client in.";
    LD_IDENTITY = "MW3209", "linkerd/mesh-tls-authentication/identity", Error, &[], "An identity is no DNS-like name, wildcard or SPIFFE id.";
    LD_IDENTITY_REF = "MW3210", "linkerd/mesh-tls-authentication/identity-ref", Error, &[], "An identity reference is no ServiceAccount and no Namespace.";
    LD_CIDR = "MW3211", "linkerd/network/cidr", Error, &[], "A network is no CIDR block and no IP address.";
    LD_EXCEPT = "MW3212", "linkerd/network/except", Error, &[], "An exception is not inside its network, or covers all of it.";
    LD_NO_NETWORK = "MW3213", "linkerd/network/none", Error, &[], "A list of networks is empty.";
    LD_RATE_TARGET = "MW3214", "linkerd/rate-limit/target", Error, &[], "A rate limit targets something that is no Server.";
    LD_RATE = "MW3215", "linkerd/rate-limit/rate", Error, &[], "A rate is 0, or larger than the total.";
    LD_RATE_CLIENT = "MW3216", "linkerd/rate-limit/client", Error, &[], "An override is for something that is no ServiceAccount.";

    LD_PARENT_PORT = "MW3220", "linkerd/route/egress-network-port", Error, &[], "A route has an EgressNetwork as parent without naming a port.";
    LD_PATH = "MW3221", "linkerd/route/path", Error, &[], "A path does not begin with a slash.";
    LD_ROUTE_REGEX = "MW3222", "linkerd/route/regex", Error, &[], "A regular expression is malformed.";
    LD_HEADER = "MW3223", "linkerd/route/header", Error, &[], "A header name or value is malformed.";
    LD_REDIRECT = "MW3224", "linkerd/route/redirect", Error, &[], "A redirect has no path, or one that does not begin with a slash.";
    LD_BACKEND_PORT = "MW3225", "linkerd/route/backend-port", Error, &[], "A Service is a backend without naming a port.";
    LD_TIMEOUT = "MW3226", "linkerd/route/timeout", Error, &[], "A timeout is malformed or negative, or the backend's is longer than the request's.";
    LD_ANNOTATION = "MW3227", "linkerd/route/annotation", Error, &[], "A retry or timeout annotation cannot be read.";
    LD_SINGLE_RULE = "MW3228", "linkerd/route/single-rule", Error, &[], "A TLSRoute or TCPRoute does not have exactly one rule.";
    LD_GRPC_METHOD = "MW3229", "linkerd/route/grpc-method", Error, &[], "A gRPC method is matched by a regular expression.";

    SP_NAME_EMPTY = "MW3240", "linkerd/service-profile/route-name", Error, &[], "A route's name is empty.";
    SP_CONDITION = "MW3241", "linkerd/service-profile/condition", Error, &[], "A condition says nothing.";
    SP_STATUS = "MW3242", "linkerd/service-profile/status", Error, &[], "A range of status codes is not within 100 to 599 or ends before it begins.";
    SP_DURATION = "MW3243", "linkerd/service-profile/duration", Error, &[], "A timeout or ttl is no duration.";
    SP_RETRY_RATIO = "MW3244", "linkerd/service-profile/retry-ratio", Error, &[], "A retry ratio is negative.";
    SP_OPAQUE_PORTS = "MW3245", "linkerd/service-profile/opaque-ports", Error, &[], "The definition and the webhook contradict each other about opaquePorts, so it can have no value.";
    SP_REGEX = "MW3246", "linkerd/service-profile/path-regex", Warning, &[], "A pathRegex is malformed, and the proxy leaves its route out.";
    LD_EXPRESSIONS = "MW3247", "linkerd/too-many-regexes", Error, &[], "The object has more regular expressions than can be checked.";

    VS_OVERLAP = "MW3501", "istio/virtual-service/overlapping-match", Info, &["IST0131"], "A match repeats an earlier one, or is within it.";
    EF_RELATIVE = "MW3502", "istio/envoy-filter/relative-operation", Warning, &["IST0151"], "A patch is placed relative to others without a priority.";
    EF_REPLACE = "MW3503", "istio/envoy-filter/replace-ignored", Warning, &["IST0152"], "REPLACE works on HTTP filters, network filters and virtual hosts only.";
    EF_ADD = "MW3504", "istio/envoy-filter/add-ignored", Warning, &["IST0153"], "ADD does not work on route configurations and HTTP routes.";
    EF_REMOVE = "MW3505", "istio/envoy-filter/remove-ignored", Warning, &["IST0154"], "REMOVE does not work on route configurations and HTTP routes.";
    EF_RELATIVE_VERSION = "MW3506", "istio/envoy-filter/relative-operation-with-version", Warning, &["IST0155"], "A patch is placed relative to one that is for some proxy versions only.";
    DR_NO_CA_PORT = "MW3507", "istio/destination-rule/port-tls-without-ca", Warning, &["IST0129"], "TLS of a port without a CA does not verify whom it talks to.";
    DEPRECATED = "MW3508", "istio/deprecated", Warning, &["IST0002"], "A field that Istio ignores or has replaced.";
    VS_RETRY_TIME = "MW3509", "istio/virtual-service/retries-outlast-timeout", Warning, &[], "The retries need longer than the timeout leaves.";
    VS_DEAD_ROUTE = "MW3510", "istio/virtual-service/dead-route", Warning, &[], "A broader match stands before a route, which is never used.";
    EF_INTERNAL = "MW3511", "istio/envoy-filter/internal", Info, WARNED, "An EnvoyFilter changes what the next version of Istio may do in another way.";

    GATEWAY_MISSING = "MW4101", "istio/virtual-service/gateway-missing", Error, &["IST0101", "IST0132", "KIA1102"], "A VirtualService is bound to a Gateway that does not exist.";
    HOST_MISSING = "MW4102", "istio/virtual-service/host-missing", Error, &["IST0101", "KIA1101"], "A destination is a host that nothing defines.";
    PORT_MISSING = "MW4103", "istio/virtual-service/port-missing", Error, &["IST0101"], "A destination is a port that its host does not have.";
    SUBSET_MISSING = "MW4104", "istio/virtual-service/subset-missing", Error, &["IST0101", "KIA1107"], "A destination is a subset that no DestinationRule defines.";
    PORT_AMBIGUOUS = "MW4105", "istio/virtual-service/port-ambiguous", Warning, &["IST0112"], "A destination names no port, and its host has several.";
    DELEGATE_MISSING = "MW4106", "istio/virtual-service/delegate-missing", Error, &[], "A route is delegated to a VirtualService that does not exist or is none.";
    HOST_NOT_ON_GATEWAY = "MW4107", "istio/virtual-service/host-not-on-gateway", Warning, &["IST0132"], "No host of a VirtualService is one of its Gateway's.";
    GATEWAY_INTERNAL = "MW4108", "istio/virtual-service/internal-gateway", Warning, &["IST0165"], "A VirtualService is bound to a Gateway that Istio makes for the Gateway API.";
    CREDENTIAL_MISSING = "MW4109", "istio/gateway/credential-missing", Error, &["IST0101"], "A Gateway needs a Secret that does not exist where its workload runs.";
    CREDENTIAL_INVALID = "MW4110", "istio/gateway/credential-invalid", Error, &["IST0161"], "A Gateway's Secret has no usable certificate and key, or one that has expired.";
    SELECTOR_NO_POD = "MW4111", "istio/selector-without-workload", Error, &["IST0101", "KIA0302", "KIA1004"], "A selector selects no workload.";
    POLICY_NO_WORKLOAD = "MW4112", "istio/authorization-policy/no-workload", Warning, &["IST0127"], "An AuthorizationPolicy has no workload to protect.";
    SOURCE_NAMESPACE_MISSING = "MW4113", "istio/authorization-policy/namespace-missing", Error, &["IST0101", "KIA0101"], "A source is a namespace that does not exist.";
    GATEWAY_PORT = "MW4114", "istio/gateway/port-not-on-service", Warning, &["IST0162"], "A Gateway listens on a port that its Service does not have.";
    SUBSET_NO_POD = "MW4115", "istio/destination-rule/subset-without-workload", Error, &["IST0173", "KIA0203"], "A subset selects no workload.";
    RULE_HOST_UNKNOWN = "MW4116", "istio/destination-rule/host-unknown", Warning, &["IST0174", "KIA0202"], "A DestinationRule is for a host that nothing defines.";
    CLAIM_WITHOUT_AUTHENTICATION = "MW4117", "istio/virtual-service/claim-without-authentication", Error, &["IST0149"], "JWT claims are matched on a gateway that authenticates no requests.";
    ADDRESSES_REQUIRED = "MW4118", "istio/service-entry/addresses-required", Warning, &["IST0134"], "A TCP port of a ServiceEntry without addresses takes the traffic of all hosts.";
    TELEMETRY_PROVIDER = "MW4119", "istio/telemetry/no-provider", Warning, &["IST0157"], "Access logging has no provider, and the mesh has no default one.";
    SERVICE_PORT_NAME = "MW4120", "istio/service/port-name", Info, &["IST0118", "KIA0601"], "The name of a Service's port gives no protocol.";
    EXTERNAL_NAME_PORT = "MW4121", "istio/service/external-name-port", Warning, &["IST0150"], "A TCP port of an ExternalName Service takes the traffic of all hosts.";
    SELECTOR_INEFFECTIVE = "MW4122", "istio/selector-on-gateway-api", Warning, &["IST0166"], "A selector has no effect on the workload of a Gateway of the Gateway API.";
    POLICY_INEFFECTIVE = "MW4123", "istio/sidecar/ambient", Warning, &["IST0167"], "A Sidecar is for workloads in ambient mode, which have none.";
    JWKS_UNRESTRICTED = "MW4124", "istio/istiod/jwks-fetch-unrestricted", Warning, &["IST0175"], "istiod fetches keys from any address.";
    STATUS_NEGATIVE = "MW4125", "istio/status", Warning, &["IST0171"], "The object's status says that a part of it does not work.";
    PRINCIPAL_UNKNOWN = "MW4126", "istio/authorization-policy/unknown-service-account", Warning, &["KIA0106"], "A principal is a service account that does not exist.";
    EGRESS_HOST_UNKNOWN = "MW4127", "istio/sidecar/egress-host-unknown", Warning, &["KIA1004"], "A Sidecar lets through a host that nothing defines.";
    TARGET_MISSING = "MW4128", "istio/target-missing", Error, &[], "A policy is attached to something that does not exist.";
    INGRESS_WITHOUT_SUBSET = "MW4129", "istio/virtual-service/ingress-ignores-subsets", Warning, &["IST0140"], "Subsets that another VirtualService routes to are not used by traffic from a gateway.";
    CREDENTIAL_EXPIRES = "MW4130", "istio/gateway/credential-expires", Warning, &[], "The certificate of a Gateway's Secret expires soon.";

    PARENT_MISSING = "MW4201", "linkerd/route/parent-missing", Error, &["NoMatchingParent"], "A route's parent does not exist or cannot have routes.";
    BACKEND_MISSING = "MW4202", "linkerd/route/backend-missing", Error, &["BackendNotFound"], "A route's backend does not exist.";
    BACKEND_KIND = "MW4203", "linkerd/route/backend-kind", Error, &["InvalidKind"], "A route's backend is of a kind that it cannot have.";
    LD_TARGET_MISSING = "MW4204", "linkerd/target-missing", Error, &["NoMatchingTarget"], "A policy's target does not exist.";
    AUTHENTICATION_MISSING = "MW4205", "linkerd/authorization-policy/authentication-missing", Error, &[], "A required authentication does not exist, so nobody fulfils it.";
    SERVER_NO_POD = "MW4206", "linkerd/server/no-workload", Warning, &[], "A Server selects no workload.";
    PROFILE_SERVICE_UNKNOWN = "MW4207", "linkerd/service-profile/service-unknown", Warning, &[], "A ServiceProfile is for a service that does not exist.";
    NETWORK_OVERLAP = "MW4208", "linkerd/egress-network/cluster-networks", Error, &["EgressReasonNetworkOverlap"], "An EgressNetwork overlaps the networks of the cluster.";

    OBJECT_TWICE = "MW5001", "object/twice", Warning, &[], "The same object is there twice, and the later one counts.";
    VS_MESH_HOST = "MW5101", "istio/virtual-service/host-twice-on-mesh", Error, &["IST0109", "KIA1106"], "Two VirtualServices of the mesh have one host.";
    VS_GATEWAY_HOST = "MW5102", "istio/virtual-service/host-twice-on-gateway", Warning, &["KIA1106"], "Two VirtualServices of a gateway have one host; their routes are joined by age.";
    GATEWAY_CONFLICT = "MW5103", "istio/gateway/conflict", Error, &["IST0145", "KIA0301"], "Two Gateways have one workload, port and host.";
    TLS_AGAINST_STRICT = "MW5104", "istio/destination-rule/plain-against-mtls", Error, &["KIA0207"], "Clients send plain text or their own TLS to workloads that demand mutual TLS.";
    TLS_AGAINST_DISABLE = "MW5105", "istio/destination-rule/mtls-against-plain", Error, &["KIA0206", "KIA0501"], "Clients send mutual TLS to workloads that take plain text only.";
    DR_TWICE = "MW5106", "istio/destination-rule/host-twice", Warning, &["KIA0201"], "Two DestinationRules of a namespace have one host; settings of the younger are dropped.";
    SUBSET_TWICE = "MW5107", "istio/destination-rule/subset-in-two-rules", Warning, &["KIA0201"], "Two DestinationRules of one host define the same subset.";
    DR_NOT_SEEN = "MW5108", "istio/destination-rule/not-seen", Warning, &[], "A DestinationRule stands in a namespace where no client looks for it.";
    DR_WILDCARD_DROPPED = "MW5109", "istio/destination-rule/wildcard-dropped", Warning, &[], "A DestinationRule for one host drops the settings of the one for all of them.";
    ALLOW_HTTP_ON_TCP = "MW5111", "istio/authorization-policy/allow-http-on-tcp", Error, &[], "An ALLOW rule asks for HTTP on a TCP port, so everything is denied there.";
    ROOT_DENIES = "MW5112", "istio/authorization-policy/mesh-denied", Warning, &[], "A policy of the root namespace allows nothing, so the whole mesh is denied.";
    FIRST_ALLOW = "MW5113", "istio/authorization-policy/first-allow", Warning, &[], "The first ALLOW policy of a workload denies all that it does not name.";
    DENY_COVERS_ALLOW = "MW5114", "istio/authorization-policy/deny-covers-allow", Warning, &[], "A DENY policy denies all that an ALLOW policy allows.";
    PRINCIPAL_WITHOUT_MTLS = "MW5115", "istio/authorization-policy/identity-without-mtls", Warning, &["KIA0105"], "A rule asks for an identity where plain text is taken, which has none.";
    TOKENLESS = "MW5116", "istio/request-authentication/tokenless", Warning, &[], "RequestAuthentication alone lets requests without a token in.";
    PEER_TWICE = "MW5117", "istio/peer-authentication/twice", Warning, &["KIA0003"], "Two PeerAuthentications are for one workload; the older one counts.";
    PEER_PORT = "MW5118", "istio/peer-authentication/service-port", Warning, &[], "A port of portLevelMtls is the Service's, and not the workload's.";
    SIDECAR_HIDES = "MW5119", "istio/sidecar/hides-destination", Error, &[], "A Sidecar hides a destination that its workloads are routed to.";
    SE_PROTOCOL = "MW5120", "istio/service-entry/protocols", Warning, &["IST0177"], "ServiceEntries give one port of one host different protocols.";
    SE_OVERLAP = "MW5121", "istio/service-entry/overlap", Warning, &[], "ServiceEntries of one host differ in ports or resolution.";
    SE_SHADOWS = "MW5122", "istio/service-entry/shadows-service", Warning, &[], "A ServiceEntry has the name of a Service.";
    SE_TCP_ON_HTTP = "MW5123", "istio/service-entry/tcp-on-http-port", Warning, &[], "A TCP port without addresses is an HTTP port of others.";
    HTTP_ON_TCP = "MW5124", "istio/virtual-service/http-on-tcp-port", Error, &[], "HTTP routes are for a host that has TCP ports only.";
    INTERNAL_ON_GATEWAY = "MW5125", "istio/virtual-service/internal-host-on-gateway", Warning, &[], "Routes of an internal host are bound to gateways only, so the mesh does not use them.";
    VS_AND_ROUTE = "MW5126", "istio/virtual-service/and-http-route", Warning, &[], "A VirtualService and an HTTPRoute are for one host.";
    GATEWAY_WILDCARD = "MW5128", "istio/gateway/overlapping-wildcards", Warning, &["KIA0301"], "HTTPS hosts of two servers overlap, so a browser's connection for one is used for the other.";
    SIDECAR_OVERLAP = "MW5129", "istio/sidecar/overlap", Error, &["IST0110", "KIA1002"], "Two Sidecars select one workload.";
    SIDECAR_DEFAULTS = "MW5130", "istio/sidecar/two-defaults", Error, &["IST0111", "KIA1003"], "Two Sidecars of a namespace have no selector.";
    TELEMETRY_OVERLAP = "MW5131", "istio/telemetry/overlap", Error, &["IST0159"], "Two Telemetries select one workload.";
    TELEMETRY_DEFAULTS = "MW5132", "istio/telemetry/two-defaults", Error, &["IST0160"], "Two Telemetries of a namespace have no selector.";
    CERTIFICATE_SHARED = "MW5133", "istio/gateway/certificate-shared", Warning, &["IST0138"], "Two Gateways of one workload have one certificate, so connections for one are used for the other.";

    SERVER_DENIES = "MW5201", "linkerd/server/denies-all", Warning, &[], "A Server without any policy denies everything on its port.";
    PROBES_CUT = "MW5202", "linkerd/route/probes-cut-off", Warning, &[], "A route of a Server takes away the default that let probes through.";
    PROFILE_WINS = "MW5203", "linkerd/service-profile/over-route", Warning, &[], "A ServiceProfile makes Linkerd ignore the routes of its Service.";
    SERVERS_OVERLAP = "MW5204", "linkerd/server/overlap", Error, &[], "Two Servers select one port of one workload.";
    ROUTE_KINDS = "MW5205", "linkerd/route/kinds", Error, &["RouteReasonConflicted"], "Routes of another kind on the same parent win.";
    RATE_LIMIT_TWICE = "MW5206", "linkerd/rate-limit/twice", Error, &["RateLimitReasonAlreadyExists"], "Two rate limits are for one Server; the older one counts.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_and_slugs_are_unique_and_well_formed() {
        let ids: HashSet<_> = ALL.iter().map(|rule| rule.id).collect();
        let slugs: HashSet<_> = ALL.iter().map(|rule| rule.slug).collect();
        assert_eq!((ids.len(), slugs.len()), (ALL.len(), ALL.len()));
        for rule in ALL {
            let digits = rule.id.strip_prefix("MW").unwrap();
            assert!(digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()), "{}", rule.id);
            assert!(rule.slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-/".contains(&b)));
            assert!(rule.doc.ends_with('.') && !rule.doc.is_empty(), "{}", rule.id);
        }
        assert!(ALL.is_sorted_by_key(|rule| rule.id));
    }
}
