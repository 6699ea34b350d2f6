//! A change that Istio admits and Envoy refuses (a NACK): the kind of failure that no validation before the fact finds.

/// A regular expression for a header match that passes every check of Istio and that Envoy refuses.
///
/// Istio's webhook allows an expression of up to 1024 characters that Go can compile. Envoy compiles it with RE2, where
/// each repetition is written out: 40 characters a thousand times are 40004 instructions, and the limit in Istio's own
/// bootstrap is 32768. Envoy keeps the routes that it has, so traffic goes on as before.
pub const REGEX_THAT_ENVOY_REFUSES: &str = "(?:one-name-of-forty-characters-1000-times-){1000}";

/// What Envoy's words in `lastError` of istiod's `/debug/syncz` contain when it has refused
/// [`REGEX_THAT_ENVOY_REFUSES`]; in full: `regex '…' RE2 program size of 40004 > max program size of 32768 set for the
/// error level threshold. Increase configured max program size if necessary.`
pub const ENVOY_REFUSAL: &str = "RE2 program size of 40004 > max program size of 32768";
