//! Conflicts of Istio's policies on who may call whom.

use super::check;

#[test]
fn policies_that_deny_more_than_they_say() {
    check(&[
        ("HTTP on a TCP port", "
            svc shop/db: {selector: {app: db}, ports: [{port: 5432, name: tcp-pg}]}
            svc shop/web: {selector: {app: web}, ports: [{port: 80, name: http}]}
            ap shop/db: {selector: {matchLabels: {app: db}}, rules: [{to: [{operation: {methods: [GET]}}]}]}
            ap shop/web: {selector: {matchLabels: {app: web}}, rules: [{to: [{operation: {methods: [GET]}}]}]}
            ap shop/both: {selector: {matchLabels: {app: db}}, rules: [{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {ports: ['5432']}}]}]}",
            &["MW5111 AuthorizationPolicy/db spec.rules[0].to[0].operation.methods", "MW5113 AuthorizationPolicy/web spec.rules"]),
        ("nothing is allowed in the mesh", "
            ap istio-system/none: {}
            ap shop/none: {}
            ap istio-system/some: {selector: {matchLabels: {a: b}}}",
            &["MW5112 AuthorizationPolicy/none spec"]),
        ("the first ALLOW policy", "
            ap shop/first: {selector: {matchLabels: {app: cart}}, rules: [{from: [{source: {namespaces: [x]}}]}]}
            ap web/one: {rules: [{from: [{source: {namespaces: [x]}}]}]}
            ap web/two: {selector: {matchLabels: {app: cart}}, rules: [{from: [{source: {namespaces: [x]}}]}]}
            ap all/all: {rules: [{}]}
            ap deny/deny: {action: DENY, rules: [{from: [{source: {namespaces: [x]}}]}]}",
            &["MW5113 AuthorizationPolicy/first spec.rules", "MW5113 AuthorizationPolicy/one spec.rules",
              "MW5115 AuthorizationPolicy/deny spec.rules[0].from[0].source.namespaces"]),
        ("DENY covers ALLOW", "
            ap shop/allow: {rules: [{from: [{source: {namespaces: [web]}}], to: [{operation: {paths: [/api/a], methods: [GET]}}]}]}
            ap shop/deny: {action: DENY, rules: [{to: [{operation: {paths: [/api/*]}}]}]}
            ap shop/other: {rules: [{to: [{operation: {paths: [/api/a, /web]}}]}]}
            ap web/allow: {rules: [{to: [{operation: {paths: [/a]}}]}, {}]}
            ap web/deny: {action: DENY, rules: [{from: [{source: {ipBlocks: [1.1.1.1]}}], to: [{operation: {paths: [/a]}}]}]}",
            &["MW5114 AuthorizationPolicy/allow spec.rules"]),
        ("identities where plain text is taken", "
            pa shop/off: {mtls: {mode: DISABLE}}
            pa web/on: {mtls: {mode: STRICT}}
            ap shop/a: {rules: [{from: [{source: {principals: ['*']}}]}, {}]}
            ap web/a: {rules: [{from: [{source: {principals: ['*']}}]}, {}]}
            ap open/a: {rules: [{from: [{source: {principals: ['*']}}]}, {}]}
            ap open/deny: {action: DENY, rules: [{from: [{source: {notNamespaces: [open]}}]}]}",
            &["MW5115 AuthorizationPolicy/a spec.rules[0].from[0].source.principals",
              "MW5115 AuthorizationPolicy/deny spec.rules[0].from[0].source.notNamespaces"]),
    ]);
}

#[test]
fn authentication_that_is_none() {
    check(&[
        (
            "tokens that nobody asks for",
            "
            ra shop/a: {selector: {matchLabels: {app: cart}}, jwtRules: [{issuer: a}]}
            ap shop/a: {selector: {matchLabels: {app: web}}, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}
            ra web/a: {jwtRules: [{issuer: a}]}
            ap web/a: {rules: [{when: [{key: 'request.auth.claims[a]', values: [b]}]}]}",
            &["MW5116 RequestAuthentication/a spec.jwtRules"],
        ),
        (
            "PeerAuthentications for one workload, and ports of Services",
            "
            svc shop/cart: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080, name: http}]}
            pa shop/a@2020: {selector: {matchLabels: {app: cart}}, portLevelMtls: {80: {mode: DISABLE}}}
            pa shop/b@2021: {selector: {matchLabels: {app: cart}}, portLevelMtls: {8080: {mode: DISABLE}}}
            pa shop/c: {mtls: {mode: STRICT}}
            pa web/d: {mtls: {mode: STRICT}}
            pa web/e: {mtls: {mode: STRICT}}",
            &[
                "MW5117 PeerAuthentication/a spec",
                "MW5117 PeerAuthentication/b spec",
                "MW5117 PeerAuthentication/d spec",
                "MW5117 PeerAuthentication/e spec",
                "MW5118 PeerAuthentication/a spec.portLevelMtls.80",
            ],
        ),
    ]);
}
