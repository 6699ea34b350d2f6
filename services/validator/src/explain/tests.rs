//! Whole sentences, as people will read them.

use super::explain;
use crate::schema::Catalogue;

fn sentences(yaml: &str) -> Vec<String> {
    explain(yaml.as_bytes(), &Catalogue::default()).expect("the text can be read").sentences
}

fn one(kind: &str, namespace: &str, spec: &str) -> String {
    let text = format!("{kind}\nmetadata: {{name: cart, namespace: {namespace}}}\nspec: {spec}\n");
    let sentences = sentences(&text);
    assert_eq!(sentences.len(), 1);
    sentences[0].clone()
}

fn istio(spec: &str) -> String {
    let sentence = one("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy", "shop", spec);
    sentence.strip_prefix("Istio AuthorizationPolicy shop/cart: ").expect("the subject").to_owned()
}

fn linkerd(kind: &str, version: &str, spec: &str) -> String {
    let sentence = one(&format!("apiVersion: policy.linkerd.io/{version}\nkind: {kind}"), "shop", spec);
    sentence.strip_prefix(&format!("Linkerd {kind} shop/cart: ")).expect("the subject").to_owned()
}

const ELSE: &str = "Everything else is denied there once this policy exists, unless another ALLOW policy lets it in.";
const MTLS: &str = "Note: principals, namespaces and service accounts are known of callers with mutual TLS only.";

#[test]
fn rules_are_joined_by_or_and_their_parts_by_and() {
    let spec = "{selector: {matchLabels: {app: cart}}, rules: [
        {from: [{source: {principals: [a, b]}}], to: [{operation: {methods: [GET], paths: [/x, /y*]}}]},
        {from: [{source: {namespaces: [c]}}, {source: {ipBlocks: [10.0.0.0/8], serviceAccounts: [shop/web]}}],
         to: [{operation: {ports: ['80']}}]}]}";
    let expected = "ALLOW a request to pods with app=cart in namespace shop if \
        (from principal \"a\" or \"b\" AND with method \"GET\" AND to path \"/x\" or starting with \"/y\") OR \
        ((from namespace \"c\" OR (from service account \"shop/web\" AND from address \"10.0.0.0/8\")) AND to port \"80\"). ";
    let notes = " Note: on a port that is not HTTP nothing can match methods and paths, so the rules that name them let nothing \
        in there. ";
    let ports = " Note: ports are those of the pods, not of the Service.";
    assert_eq!(istio(spec), format!("{expected}{ELSE}{notes}{MTLS}{ports}"));
}

#[test]
fn conditions_and_what_is_not() {
    let spec = "{rules: [{from: [{source: {requestPrincipals: ['*'], notNamespaces: [test]}}],
        when: [{key: 'request.headers[x]', values: [a, b*], notValues: [ab]}, {key: source.ip, notValues: [1.2.3.4]}]}]}";
    let expected = "ALLOW a request to any workload of namespace shop if with any valid token AND \
        not (from namespace \"test\") AND request.headers[x] is \"a\" or starting with \"b\" AND \
        not (request.headers[x] is \"ab\") AND not (source.ip is \"1.2.3.4\"). ";
    let sentence = istio(spec);
    assert!(sentence.starts_with(&format!("{expected}{ELSE}")), "{sentence}");
    assert!(sentence.ends_with("Note: tokens are checked only where a RequestAuthentication says how."), "{sentence}");
}

#[test]
fn what_is_empty_means_nobody_or_everybody() {
    let nobody = "ALLOW nothing: every request to any workload of namespace shop is denied once this policy exists, unless another \
        ALLOW policy lets it in. Warning: without rules and without a selector it closes the whole namespace.";
    assert_eq!(istio("{}"), nobody);
    assert_eq!(
        istio("{selector: {matchLabels: {app: cart}}, rules: []}"),
        "ALLOW nothing: every request to pods with app=cart in namespace shop is denied once this policy exists, unless another \
         ALLOW policy lets it in. Warning: without rules it closes these workloads."
    );
    assert_eq!(
        istio("{rules: [{}, {to: [{operation: {ports: ['80']}}]}]}"),
        "ALLOW every request to any workload of namespace shop. Warning: rule 1 demands nothing, so the policy lets everyone in, \
         without any identity too; the other rules change nothing. Note: ports are those of the pods, not of the Service."
    );
    assert_eq!(
        istio("{action: DENY, rules: [{}]}"),
        "DENY every request to any workload of namespace shop, whatever ALLOW policies say. It lets nothing in by itself. \
         Warning: rule 1 demands nothing, so the policy lets nothing through."
    );
}

#[test]
fn a_policy_of_the_root_namespace_is_for_the_mesh() {
    let sentence = one("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy", "istio-system", "{}");
    let expected = "Istio AuthorizationPolicy istio-system/cart: ALLOW nothing: every request to any workload of the whole mesh is \
        denied once this policy exists, unless another ALLOW policy lets it in. Warning: without rules and without a selector it \
        closes the whole mesh. Note: a policy in istio-system is for all namespaces, unless the mesh has another root namespace.";
    assert_eq!(sentence, expected);
}

#[test]
fn one_dash_too_many_is_noticed() {
    let two = "{rules: [{from: [{source: {namespaces: [a]}}]}, {to: [{operation: {ports: ['80']}}]}]}";
    let warning = "Warning: rule 1 only says from whom and rule 2 only says to what, and rules are joined by OR; if both must hold, \
        write from and to in one rule, with one dash.";
    assert!(istio(two).contains(warning), "{}", istio(two));
    let one = "{rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {ports: ['80']}}]}]}";
    assert!(!istio(one).contains("Warning"), "{}", istio(one));
}

#[test]
fn actions_other_than_allow() {
    assert_eq!(
        istio(
            "{action: DENY, rules: [{from: [{source: {notNamespaces: [shop]}}], to: [{operation: {methods: [PUT]}}]}]}"
        ),
        format!(
            "DENY a request to any workload of namespace shop if not (from namespace \"shop\") AND with method \"PUT\", whatever \
             ALLOW policies say. It lets nothing in by itself. Note: rule 1 also denies callers whose identity is unknown, for they \
             are not the excepted ones. Note: on a port that is not HTTP the rules are applied without methods, so more is denied \
             there than is said here. {MTLS}"
        )
    );
    assert_eq!(
        istio("{action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {hosts: [a]}}]}]}"),
        "ASK the provider \"opa\" about a request to any workload of namespace shop if for host \"a\"; what it refuses is denied, and \
         the rest is up to DENY and ALLOW policies. Note: hosts can be compared on HTTP ports only."
    );
    assert_eq!(
        istio(
            "{action: AUDIT, targetRefs: [{kind: Service, name: cart}], rules: [{to: [{operation: {ports: ['1']}}]}]}"
        ),
        "AUDIT a request to whatever goes through Service \"cart\" in namespace shop if to port \"1\": it is recorded, and neither let \
         in nor denied by this policy. Note: ports are those of the pods, not of the Service."
    );
}

#[test]
fn sources_that_only_exclude_let_the_rest_in() {
    let warning =
        "Warning: a source of rule 1 only says who is not let in, so everyone else is, callers without mutual TLS too.";
    let excluding = "{rules: [{from: [{source: {notPrincipals: [a]}}]}]}";
    assert!(istio(excluding).contains(warning), "{}", istio(excluding));
    let naming = "{rules: [{from: [{source: {namespaces: [b], notPrincipals: [a]}}]}]}";
    assert!(!istio(naming).contains("Warning"), "{}", istio(naming));
}

#[test]
fn linkerds_policies() {
    let others = "A request that this policy does not let in needs another policy of the same target, or is treated as the Server's \
        accessPolicy says, which is deny unless set.";
    let references = "{targetRef: {group: policy.linkerd.io, kind: Server, name: api}, requiredAuthenticationRefs: [
        {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: clients},
        {group: policy.linkerd.io, kind: NetworkAuthentication, name: cluster, namespace: linkerd}]}";
    assert_eq!(
        linkerd("AuthorizationPolicy", "v1alpha1", references),
        format!(
            "ALLOW a request to Server \"api\" in namespace shop if its client has an identity of MeshTLSAuthentication \
             \"shop/clients\" AND it comes from a network of NetworkAuthentication \"linkerd/cluster\". {others}"
        )
    );
    assert_eq!(
        linkerd(
            "AuthorizationPolicy",
            "v1alpha1",
            "{targetRef: {kind: Namespace, name: shop}, requiredAuthenticationRefs: []}"
        ),
        "ALLOW every request to any Server of namespace shop. Warning: no authentication is required, so everyone is let in, without \
         mutual TLS too."
    );
    let client = "{server: {selector: {matchLabels: {app: api}}}, client: {networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}],
        meshTLS: {identities: ['*.shop.test'], serviceAccounts: [{name: web}]}}}";
    assert_eq!(
        linkerd("ServerAuthorization", "v1beta1", client),
        format!(
            "ALLOW a request to any Server with app=api in namespace shop if (its client has the identity ending with \".shop.test\" \
             OR its client is the service account \"shop/web\") AND it comes from \"10.0.0.0/8\" but not \"10.1.0.0/16\". {others}"
        )
    );
}

#[test]
fn linkerds_servers() {
    assert_eq!(
        linkerd("Server", "v1beta3", "{podSelector: {matchLabels: {app: cart}}, port: http, proxyProtocol: HTTP/2}"),
        "covers port \"http\" of pods with app=cart in namespace shop (read as HTTP/2); a request there that no AuthorizationPolicy or \
         ServerAuthorization allows is DENIED. Warning: as long as no policy targets this Server, its port takes nothing."
    );
    assert_eq!(
        linkerd("Server", "v1beta3", "{podSelector: {}, port: 80, accessPolicy: all-authenticated}"),
        "covers port 80 of all pods of namespace shop (the protocol is detected); a request there that no AuthorizationPolicy or \
         ServerAuthorization allows is let in if its client has an identity of the mesh."
    );
}

#[test]
fn several_objects_have_several_lines_and_others_say_what_they_are() {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {}\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: shop}\n";
    let lines = sentences(&format!("{policy}---\n---\n{service}"));
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with(
            "Istio AuthorizationPolicy a: ALLOW nothing: every request to any workload of its namespace is"
        )
    );
    assert!(lines[1].starts_with("Service shop/b: not explained; there are sentences for "), "{}", lines[1]);
}

#[test]
fn what_the_mesh_would_refuse_is_explained_with_a_warning() {
    let spec =
        "{targetRef: {kind: Deployment, name: api}, requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]}";
    let sentence = linkerd("AuthorizationPolicy", "v1alpha1", spec);
    assert!(
        sentence.contains(
            "Warning: the mesh refuses this policy: Linkerd does not authorize by Deployment (line 4, column 26)."
        ),
        "{sentence}"
    );
}

#[test]
fn what_cannot_be_read_is_refused_at_its_place() {
    for (text, id, line, column) in [
        ("a: [", "MW1009", 1, 4),
        ("", "MW1008", 1, 1),
        (
            "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: a}\nspec: {port: 80}\n",
            "MW2010",
            4,
            1,
        ),
    ] {
        let findings = explain(text.as_bytes(), &Catalogue::default()).expect_err("the text cannot be read");
        let at = findings[0].at.expect("a place");
        assert_eq!((findings[0].id.as_str(), at.line, at.column), (id, line, column), "{text}: {findings:?}");
    }
}
