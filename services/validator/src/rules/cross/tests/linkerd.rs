//! References and conflicts of Linkerd's kinds.

use super::check;

#[test]
fn references_that_dangle() {
    check(&[
        ("parents and backends of routes", "
            svc shop/cart: {ports: [{port: 80}]}
            svc shop/headless: {clusterIP: None, ports: [{port: 80}]}
            egress shop/net: {trafficPolicy: Allow}
            lhttp shop/a: {parentRefs: [{group: core, kind: Service, name: cart, port: 80}], rules: [{backendRefs: [{name: cart, port: 80}, {name: gone, port: 80}]}]}
            lhttp shop/b: {parentRefs: [{group: core, kind: Service, name: gone, port: 80}, {group: core, kind: Service, name: headless, port: 80}, {kind: Server, name: gone}]}
            lhttp shop/c: {parentRefs: [{group: core, kind: Service, name: cart, port: 81}], rules: [{backendRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: net}, {kind: Pod, name: x}]}]}",
            &["MW4202 HTTPRoute/a spec.rules[0].backendRefs[1].name", "MW4201 HTTPRoute/b spec.parentRefs[0].name",
              "MW4201 HTTPRoute/b spec.parentRefs[1].name", "MW4201 HTTPRoute/b spec.parentRefs[2].name",
              "MW4203 HTTPRoute/c spec.rules[0].backendRefs[0]", "MW4203 HTTPRoute/c spec.rules[0].backendRefs[1]"]),
        ("targets and authentications", "
            server shop/cart: {podSelector: {}, port: 80}
            mtls shop/m: {identities: ['*']}
            lap shop/a: {targetRef: {group: policy.linkerd.io, kind: Server, name: cart}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m}, {kind: ServiceAccount, name: gone}]}
            lap shop/b: {targetRef: {group: policy.linkerd.io, kind: Server, name: gone}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: gone}]}
            lap shop/c: {targetRef: {kind: Namespace, name: shop}, requiredAuthenticationRefs: []}
            sauth shop/d: {server: {name: gone}, client: {unauthenticated: true}}
            rate shop/e: {targetRef: {group: policy.linkerd.io, kind: Server, name: gone}, total: {requestsPerSecond: 1}}
            profile shop/gone.shop.svc.cluster.local: {routes: []}
            egress shop/f: {trafficPolicy: Allow, networks: [{cidr: 10.1.0.0/16}]}
            egress shop/g: {trafficPolicy: Allow, networks: [{cidr: 1.1.1.0/24}, {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16]}]}",
            &["MW4205 AuthorizationPolicy/a spec.requiredAuthenticationRefs[1].name", "MW4204 AuthorizationPolicy/b spec.targetRef.name",
              "MW4205 AuthorizationPolicy/b spec.requiredAuthenticationRefs[0].name", "MW4204 ServerAuthorization/d spec.server.name",
              "MW4204 HTTPLocalRateLimitPolicy/e spec.targetRef.name", "MW4207 ServiceProfile/gone.shop.svc.cluster.local metadata.name",
              "MW4206 Server/cart spec.podSelector", "MW4208 EgressNetwork/f spec.networks[0].cidr"]),
    ]);
}

#[test]
fn conflicts() {
    check(&[
        ("Servers that nobody may call", "
            server shop/a: {podSelector: {matchLabels: {app: a}}, port: 80}
            server shop/b: {podSelector: {matchLabels: {app: b}}, port: 80, accessPolicy: all-authenticated}
            server shop/c: {podSelector: {matchLabels: {app: c}}, port: 80}
            lap shop/c: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: c}, requiredAuthenticationRefs: []}
            lhttp shop/c: {parentRefs: [{kind: Server, name: c}]}
            server web/d: {podSelector: {matchLabels: {app: d}}, port: 80}
            lap web/d: {targetRef: {kind: Namespace, name: web}, requiredAuthenticationRefs: []}
            server x/e: {podSelector: {matchLabels: {app: e}}, port: 80} labels {l: m}
            sauth x/e: {server: {selector: {matchLabels: {l: m}}}, client: {unauthenticated: true}}",
            &["MW5201 Server/a spec"]),
        ("probes that a route cuts off", "
            pod shop/p: {containers: [{name: a, ports: [{name: http, containerPort: 80}], livenessProbe: {httpGet: {path: /live, port: http}}, readinessProbe: {httpGet: {path: /api/ready, port: 90}}}]} labels {app: a}
            server shop/a: {podSelector: {matchLabels: {app: a}}, port: 80, accessPolicy: deny}
            lap shop/all: {targetRef: {kind: Namespace, name: shop}, requiredAuthenticationRefs: []}
            lhttp shop/a: {parentRefs: [{kind: Server, name: a}], rules: [{matches: [{path: {value: /api}}]}]}
            server shop/b: {podSelector: {matchLabels: {app: a}}, port: 90}
            lhttp shop/b: {parentRefs: [{kind: Server, name: b}], rules: [{matches: [{path: {value: /api}}]}]}",
            &["MW5202 HTTPRoute/a spec.parentRefs[0]"]),
        ("a ServiceProfile and a route", "
            svc shop/cart: {ports: [{port: 80}]}
            profile shop/cart.shop.svc.cluster.local: {routes: []}
            http shop/r: {parentRefs: [{group: core, kind: Service, name: cart}]}
            profile shop/web.shop.svc.cluster.local: {routes: []}",
            &["MW5203 ServiceProfile/cart.shop.svc.cluster.local metadata.name"]),
        ("Servers for one port", "
            pod shop/p: {containers: [{name: a, ports: [{name: http, containerPort: 80}]}]} labels {app: a, tier: b}
            lap shop/all: {targetRef: {kind: Namespace, name: shop}, requiredAuthenticationRefs: []}
            server shop/a: {podSelector: {matchLabels: {app: a}}, port: 80}
            server shop/b: {podSelector: {matchExpressions: [{key: tier, operator: In, values: [b]}]}, port: http}
            server shop/c: {podSelector: {matchLabels: {app: a}}, port: 81}
            server shop/d: {podSelector: {matchLabels: {app: d}}, port: 80}",
            &["MW5204 Server/a spec.port", "MW5204 Server/b spec.port"]),
        ("kinds of routes, and rate limits", "
            svc shop/cart: {ports: [{port: 80}]}
            grpc shop/g: {parentRefs: [{group: core, kind: Service, name: cart, port: 80}]}
            http shop/h: {parentRefs: [{group: core, kind: Service, name: cart, port: 80}]}
            tcp shop/t: {parentRefs: [{group: core, kind: Service, name: cart, port: 81}]}
            server shop/s: {podSelector: {}, port: 80, accessPolicy: all-unauthenticated}
            rate shop/r1@2021: {targetRef: {group: policy.linkerd.io, kind: Server, name: s}, total: {requestsPerSecond: 1}}
            rate shop/r2@2020: {targetRef: {group: policy.linkerd.io, kind: Server, name: s}, total: {requestsPerSecond: 1}}",
            &["MW5205 HTTPRoute/h spec.parentRefs[0]", "MW5206 HTTPLocalRateLimitPolicy/r1 spec.targetRef"]),
    ]);
}
