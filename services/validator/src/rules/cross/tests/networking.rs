//! Conflicts of Istio's routes, rules, gateways and entries.

use super::{check, judge, yaml};

#[test]
fn virtual_services_of_one_host() {
    check(&[
        ("on the mesh, the older one counts", "
            vs shop/a@2020: {hosts: [cart], http: [{route: [{destination: {host: cart}}]}]}
            vs shop/b@2021: {hosts: [cart.shop.svc.cluster.local], gateways: [mesh, g], http: [{route: [{destination: {host: cart}}]}]}
            vs other/c: {hosts: [cart], http: [{route: [{destination: {host: cart}}]}]}",
            &["MW5101 VirtualService/a spec.hosts[0]", "MW5101 VirtualService/b spec.hosts[0]"]),
        ("seen by other namespaces only", "
            vs shop/a: {hosts: [a.com], exportTo: [x], http: []}
            vs shop/b: {hosts: [a.com], exportTo: [y], http: []}
            vs shop/c: {hosts: ['*.b.com'], http: []}
            vs shop/d: {hosts: [a.b.com], exportTo: [.], http: []}",
            &["MW5101 VirtualService/c spec.hosts[0]", "MW5101 VirtualService/d spec.hosts[0]"]),
        ("on a gateway, what the older takes", "
            vs shop/a@2020: {hosts: [a.com], gateways: [g], http: [{match: [{uri: {prefix: /api}}], route: [{destination: {host: a}}]}]}
            vs shop/b@2021: {hosts: [a.com], gateways: [shop/g], http: [{match: [{uri: {prefix: /web}}], route: [{destination: {host: a}}]}, {match: [{uri: {exact: /api/x}}], route: [{destination: {host: a}}]}]}
            vs shop/c@2022: {hosts: [a.com], gateways: [h], http: [{route: [{destination: {host: a}}]}]}",
            &["MW5102 VirtualService/b spec.http[1]"]),
        ("hosts that do not take HTTP routes, or not those of a gateway", "
            svc shop/db: {ports: [{port: 5432, name: tcp-pg}]}
            svc shop/web: {ports: [{port: 80, name: http}]}
            vs shop/a: {hosts: [db], http: [{route: [{destination: {host: db}}]}]}
            vs shop/b: {hosts: [web], gateways: [g], http: [{route: [{destination: {host: web}}]}]}
            vs shop/c: {hosts: [web.shop.svc.cluster.local, shop.com], gateways: [h, mesh], http: [{route: [{destination: {host: web}}]}]}",
            &["MW5124 VirtualService/a spec.http", "MW5125 VirtualService/b spec.gateways"]),
        ("beside an HTTPRoute", "
            vs shop/a: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
            http shop/r: {parentRefs: [{kind: Service, group: '', name: web}]}",
            &["MW5126 VirtualService/a spec.hosts[0]"]),
    ]);
}

#[test]
fn destination_rules_that_clash() {
    check(&[
        ("two for one host", "
            dr shop/a@2020: {host: cart, trafficPolicy: {connectionPool: {}}, subsets: [{name: v1}]}
            dr shop/b@2021: {host: cart.shop.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}, subsets: [{name: v1}, {name: v2}]}
            dr other/c: {host: cart.shop.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}",
            &["MW5106 DestinationRule/a spec.trafficPolicy", "MW5106 DestinationRule/b spec.trafficPolicy",
              "MW5107 DestinationRule/a spec.subsets[0]", "MW5107 DestinationRule/b spec.subsets[0]"]),
        ("where nobody looks", "
            svc shop/cart: {ports: [{port: 80, name: http}]}
            pod web/p: {containers: []}
            dr shop/a: {host: cart}
            dr web/b: {host: cart.shop.svc.cluster.local}
            dr away/c: {host: cart.shop.svc.cluster.local}
            dr istio-system/d: {host: cart.shop.svc.cluster.local}",
            &["MW5108 DestinationRule/c metadata.namespace"]),
        ("a wildcard's settings", "
            dr shop/all: {host: '*.shop.svc.cluster.local', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, connectionPool: {}}}
            dr shop/cart: {host: cart, trafficPolicy: {connectionPool: {}}}
            dr shop/web: {host: web, trafficPolicy: {connectionPool: {}, tls: {mode: DISABLE}}}",
            &["MW5109 DestinationRule/cart spec.host"]),
        ("TLS against what workloads demand", "
            svc shop/cart: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080, name: http}]}
            svc shop/old: {selector: {app: old}, ports: [{port: 80, name: http}]}
            pod web/p: {containers: []}
            pod x/p: {containers: []}
            pa shop/all: {mtls: {mode: STRICT}}
            pa shop/old: {selector: {matchLabels: {app: old}}, mtls: {mode: DISABLE}}
            dr shop/plain: {host: cart, trafficPolicy: {tls: {mode: DISABLE}}}
            dr web/own: {host: cart.shop.svc.cluster.local, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}
            dr shop/old: {host: old, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
            dr x/fine: {host: cart.shop.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
            &["MW5104 DestinationRule/plain spec.trafficPolicy.tls.mode",
              "MW5104 DestinationRule/own spec.trafficPolicy.portLevelSettings[0].tls.mode",
              "MW5105 DestinationRule/old spec.trafficPolicy.tls.mode"]),
        ("a port that takes plain text", "
            svc shop/cart: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080, name: http}]}
            pa shop/cart: {selector: {matchLabels: {app: cart}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}}
            dr shop/plain: {host: cart, trafficPolicy: {tls: {mode: DISABLE}}}", &[]),
    ]);
}

#[test]
fn a_plain_rule_against_strict_workloads_is_mended_by_a_patch() {
    let report = judge(&yaml(
        "
        svc shop/cart: {selector: {app: cart}, ports: [{port: 80, name: http}]}
        pa istio-system/all: {mtls: {mode: STRICT}}
        dr shop/plain: {host: cart, trafficPolicy: {tls: {mode: DISABLE}}}",
    ));
    let finding = report.findings.iter().find(|finding| finding.id == "MW5104").expect("it is found");
    assert_eq!(
        finding.message,
        "plain text to cart.shop.svc.cluster.local:80, but PeerAuthentication \"istio-system/all\" demands mutual TLS"
    );
    assert_eq!(
        finding.details.patch,
        r#"[{"op":"replace","path":"/spec/trafficPolicy/tls/mode","value":"ISTIO_MUTUAL"}]"#
    );
    assert_eq!(finding.details.related[0].path, "spec.mtls.mode");
    assert_eq!(finding.details.impact.as_ref().expect("it has one").effect, "unreachable");
    assert_eq!(finding.aliases, ["KIA0207"]);
}

#[test]
fn gateways_that_clash() {
    check(&[
        ("one host, port and workload", "
            gw shop/a: {selector: {gw: in}, servers: [{hosts: [a.com], port: {number: 80, name: http, protocol: HTTP}}]}
            gw shop/b: {selector: {gw: in}, servers: [{hosts: [a.com, b.com], port: {number: 80, name: http, protocol: HTTP}}]}
            gw shop/c: {selector: {gw: in}, servers: [{hosts: [a.com], port: {number: 81, name: http, protocol: HTTP}}]}
            gw shop/d: {selector: {gw: out}, servers: [{hosts: [a.com], port: {number: 80, name: http, protocol: HTTP}}]}
            gw shop/e: {selector: {gw: in, x: y}, servers: [{hosts: [a.com], port: {number: 80, name: http, protocol: HTTP}}]}",
            &["MW5103 Gateway/a spec.servers[0].hosts", "MW5103 Gateway/b spec.servers[0].hosts"]),
        ("a workload with the labels of both", "
            pod shop/p: {containers: []} labels {gw: in, x: y}
            gw shop/a: {selector: {gw: in}, servers: [{hosts: [a.com], port: {number: 80, name: http, protocol: HTTP}}]}
            gw shop/e: {selector: {gw: in, x: y}, servers: [{hosts: [a.com], port: {number: 80, name: http, protocol: HTTP}}]}",
            &["MW5103 Gateway/a spec.servers[0].hosts", "MW5103 Gateway/e spec.servers[0].hosts"]),
        ("wildcards and certificates over HTTPS", "
            gw shop/a: {selector: {gw: in}, servers: [{hosts: ['*.a.com'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: x}}]}
            gw shop/b: {selector: {gw: in}, servers: [{hosts: [shop/w.a.com], port: {number: 443, name: b, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: x}}]}
            gw shop/c: {selector: {gw: in}, servers: [{hosts: ['*.c.com'], port: {number: 443, name: c, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: y}}]}
            gw shop/d: {selector: {gw: in}, servers: [{hosts: [x.c.com], port: {number: 80, name: d, protocol: HTTP}}]}",
            &["MW5128 Gateway/a spec.servers[0].hosts[0]", "MW5128 Gateway/b spec.servers[0].hosts[0]",
              "MW5133 Gateway/a spec.servers[0].tls.credentialName", "MW5133 Gateway/b spec.servers[0].tls.credentialName"]),
    ]);
}

#[test]
fn service_entries_sidecars_and_telemetries_that_clash() {
    check(&[
        ("ServiceEntries of one host", "
            se shop/a: {hosts: [a.com], resolution: DNS, ports: [{number: 80, name: a, protocol: HTTP}]}
            se shop/b: {hosts: [a.com], resolution: DNS, ports: [{number: 80, name: a, protocol: HTTPS}]}
            se shop/c: {hosts: [c.com], resolution: DNS, ports: [{number: 80, name: a, protocol: HTTP}]}
            se shop/d: {hosts: [c.com], ports: [{number: 80, name: a, protocol: HTTP}]}
            se shop/e: {hosts: [e.com], exportTo: [x], ports: [{number: 80, name: a, protocol: HTTP}]}
            se shop/f: {hosts: [e.com], exportTo: [y], ports: [{number: 80, name: a, protocol: TLS}]}",
            &["MW5120 ServiceEntry/a spec.ports[0].protocol", "MW5120 ServiceEntry/b spec.ports[0].protocol",
              "MW5121 ServiceEntry/c spec.hosts[0]", "MW5121 ServiceEntry/d spec.hosts[0]"]),
        ("ServiceEntries and Services", "
            svc shop/cart: {ports: [{port: 80, name: http}]}
            se shop/a: {hosts: [cart.shop.svc.cluster.local], addresses: [1.1.1.1], ports: [{number: 80, name: a, protocol: TCP}]}
            se shop/b: {hosts: [b.com], ports: [{number: 80, name: a, protocol: TCP}, {number: 81, name: b, protocol: TCP}]}",
            &["MW5122 ServiceEntry/a spec.hosts[0]", "MW5123 ServiceEntry/b spec.ports[0]"]),
        ("Sidecars for one workload", "
            pod shop/p: {containers: []} labels {a: b, c: d}
            sc shop/a: {workloadSelector: {labels: {a: b}}, ingress: []}
            sc shop/b: {workloadSelector: {labels: {c: d}}, ingress: []}
            sc shop/c: {ingress: []}
            sc shop/d: {ingress: []}
            sc other/e: {ingress: []}",
            &["MW5129 Sidecar/a spec.workloadSelector", "MW5129 Sidecar/b spec.workloadSelector", "MW5130 Sidecar/c spec", "MW5130 Sidecar/d spec"]),
        ("Sidecars that hide", "
            svc shop/cart: {ports: [{port: 80, name: http}]}
            svc other/cart: {ports: [{port: 80, name: http}]}
            vs shop/a: {hosts: [cart], http: [{route: [{destination: {host: cart}}]}]}
            vs shop/b: {hosts: [x.com], http: [{route: [{destination: {host: cart.other.svc.cluster.local}}]}]}
            vs shop/c: {hosts: [y.com], gateways: [g], http: [{route: [{destination: {host: cart}}]}]}
            sc shop/narrow: {workloadSelector: {labels: {a: b}}, egress: [{hosts: [./x.com]}]}
            sc shop/wide: {egress: [{hosts: ['*/*']}]}",
            &["MW5119 Sidecar/narrow spec.egress"]),
        ("Telemetries for one workload", "
            pod shop/p: {containers: []} labels {a: b, c: d}
            tm shop/a: {selector: {matchLabels: {a: b}}}
            tm shop/b: {selector: {matchLabels: {c: d}}}
            tm shop/c: {tracing: []}
            tm shop/d: {tracing: []}",
            &["MW5131 Telemetry/a spec.selector", "MW5131 Telemetry/b spec.selector", "MW5132 Telemetry/c spec", "MW5132 Telemetry/d spec"]),
    ]);
}
