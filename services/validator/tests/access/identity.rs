//! Callers that show who they are, and a server that asks.
//!
//! In a cluster the sidecars get their certificates from an agent beside them, through a secret server of its own, and none
//! runs here. So the test has an authority of its own, whose certificates carry an identity as Istio's do (a `spiffe://` URI
//! and nothing else), and an EnvoyFilter gives the server's TLS chain its certificate as a file. Nothing else of what
//! istiod sends changes: its chains, and its rules on the identity of the connection's other end (`authenticated`), stay.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};

/// Who calls, as a policy writes it; none comes in plain text.
pub const CALLERS: [Option<&str>; 10] = [
    None,
    Some("cluster.local/ns/web/sa/front"),
    Some("cluster.local/ns/web/sa/frontier"),
    Some("cluster.local/ns/shop/sa/front"),
    Some("cluster.local/ns/web/sa/admin"),
    Some("other.example/ns/web/sa/admin"),
    Some("new.example/ns/web/sa/front"),
    Some("mesh.example/ns/web/sa/admin"),
    Some("old-mesh/ns/shop/sa/front"),
    // Rules on service accounts leave room for more than these two parts.
    Some("cluster.local/ns/shop-eu/region/one/sa/front/pod/7"),
];

/// Trust domains that the mesh has one after the other, its own one first, and how many sets of policies it has them for. None
/// has another's own one: by it a proxy shows that it was told of them.
pub const MESHES: [(&[&str], usize); 4] = [
    (&["cluster.local"], 22),
    (&["new.example", "cluster.local", "other.example"], 6),
    (&["mesh.example"], 6),
    (&["other.example", "old-mesh", "new-mesh"], 6),
];

/// Names by which a TLS handshake may ask for the server.
pub const SERVER_NAMES: [&str; 2] = ["ledger.shop", "other.example"];

/// By it the chain is known that has the server's certificate.
pub const ASKS_FOR_CERTIFICATES: &str = "transport_socket_of_the_test";

/// Issues every certificate of the test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// The server's own certificates lie there.
    dir: PathBuf,
}

impl Authority {
    /// One with a certificate for the server at this address.
    pub fn new(dir: &Path, server: IpAddr) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of its own: a chain is followed by names.
        params.distinguished_name.push(DnType::CommonName, "the authority of the test");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let write = |name: &str, text: String| std::fs::write(dir.join(name), text).expect("it is written");
        write("authority.pem", certificate.pem());
        let certificate = certificate.der().clone();
        let authority = Self { issuer: Issuer::new(params, key), certificate, dir: dir.to_owned() };
        let mut names = vec![server.to_string()];
        names.extend(SERVER_NAMES.map(str::to_owned));
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        write("server.pem", params.signed_by(&key, &authority.issuer).expect("a certificate").pem());
        write("server-key.pem", key.serialize_pem());
        authority
    }

    /// How a caller with this identity speaks to the server: as a sidecar of Istio does, which says so in the handshake.
    pub fn caller(&self, principal: &str) -> ClientConfig {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let uri = format!("spiffe://{principal}").try_into().expect("a URI");
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = config.with_client_auth_cert(vec![certificate.der().clone()], key).expect("a pair");
        config.alpn_protocols = vec![b"istio-http/1.1".to_vec(), b"http/1.1".to_vec()];
        config
    }

    /// Spec of the EnvoyFilter by which the server's TLS chain has a certificate and asks for one. A socket of another name
    /// takes the place of istiod's; one of the same name would be merged with it, and wait for secrets that nobody serves.
    pub fn server_certificate(&self, labels: &Value) -> Value {
        let file = |name: &str| json!({"filename": self.dir.join(name)});
        let context = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{"certificate_chain": file("server.pem"), "private_key": file("server-key.pem")}],
                "validation_context": {"trusted_ca": file("authority.pem")},
            },
        });
        let matched = json!({"context": "SIDECAR_INBOUND", "listener": {"filterChain": {"transportProtocol": "tls"}}});
        let socket = json!({"transport_socket": {"name": ASKS_FOR_CERTIFICATES, "typed_config": context}});
        let patch = json!({"operation": "MERGE", "value": socket});
        let patches = json!([{"applyTo": "FILTER_CHAIN", "match": matched, "patch": patch}]);
        json!({"workloadSelector": {"labels": labels}, "configPatches": patches})
    }
}

/// Where a request goes, for the connection: by its scheme, and by the name that the handshake asks for.
pub fn origin(caller: usize, server_name: Option<&str>, server: SocketAddr) -> String {
    match (CALLERS[caller], server_name) {
        (None, _) => format!("http://{server}"),
        (Some(_), None) => format!("https://{server}"),
        (Some(_), Some(name)) => format!("https://{name}:{}", server.port()),
    }
}
