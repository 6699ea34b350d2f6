//! A real Prometheus that lets in nobody without a certificate of its authority.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use meshward_chassis::server::install_crypto;
use meshward_local::process::Process;
use meshward_metrics_collector::Args;
use meshward_proto::types::v1::Verdict;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::{
    history,
    world::{Guard, Odd, Source, World, analysis, for_all, prometheus, refused},
};

/// An authority that issues certificates into a folder.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    file: PathBuf,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).expect("a certificate").pem()).expect("written");
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A certificate for 127.0.0.1 and its key.
    fn issue(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = (directory.join(format!("{name}-cert.pem")), directory.join(format!("{name}-key.pem")));
        std::fs::write(&files.0, certificate.pem()).expect("written");
        std::fs::write(&files.1, key.serialize_pem()).expect("written");
        files
    }
}

/// A guarded Prometheus, and what opens it.
struct Guarded {
    directory: tempfile::TempDir,
    address: String,
    authority: Authority,
    _process: Process,
}

impl Guarded {
    async fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = temporary.path();
        let authority = Authority::new(directory, "authority");
        let (cert, key) = authority.issue(directory, "server");
        let web_config = directory.join("web.yml");
        let config = format!(
            "tls_server_config:\n  cert_file: {}\n  key_file: {}\n  client_ca_file: {}\n  \
             client_auth_type: RequireAndVerifyClientCert\n",
            cert.display(),
            key.display(),
            authority.file.display(),
        );
        std::fs::write(&web_config, config).expect("written");
        let (cert, key) = authority.issue(directory, "operator");
        let read = |file: &Path| std::fs::read(file).expect("just written");
        let both = [read(&cert), read(&key)].concat();
        install_crypto();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(&read(&authority.file)).expect("a certificate")])
            .identity(reqwest::Identity::from_pem(&both).expect("an identity"))
            .build()
            .expect("a client");
        let odd = Odd { guard: Some(Guard { web_config, client }), ..Odd::default() };
        let (address, process) = prometheus(directory, &history::shop(), &odd).await;
        Self { address, authority, _process: process, directory: temporary }
    }

    async fn world(&self, setup: impl FnOnce(&mut Args)) -> World {
        World::with_args(Source::Address(self.address.clone()), |args, _| {
            // A handshake and an answer on a busy machine.
            args.source.query_timeout = crate::PATIENCE;
            setup(args);
        })
        .await
    }
}

fn show(args: &mut Args, (cert, key): &(PathBuf, PathBuf)) {
    (args.source.prometheus_cert_file, args.source.prometheus_key_file) = (vec![for_all(cert)], vec![for_all(key)]);
}

#[tokio::test]
async fn only_the_right_certificate_opens_and_a_renewed_one_is_taken_up() {
    let guarded = Guarded::new().await;
    let directory = guarded.directory.path();
    let ours = guarded.authority.issue(directory, "collector");
    let stranger = Authority::new(directory, "stranger");
    let foreign = stranger.issue(directory, "foreign");

    let world = guarded
        .world(|args| {
            args.source.prometheus_ca_file = vec![for_all(&guarded.authority.file)];
            show(args, &ours);
        })
        .await;
    let analysis_of_good = world.analyse(analysis("good")).await.expect("an analysis");
    assert_eq!(analysis_of_good.verdict(), Verdict::Healthy, "{}", analysis_of_good.explanation);

    let trusting = |args: &mut Args| args.source.prometheus_ca_file = vec![for_all(&guarded.authority.file)];
    let nobody = guarded.world(trusting).await;
    let wrong = guarded
        .world(|args| {
            trusting(args);
            show(args, &foreign);
        })
        .await;
    let naive = guarded.world(|args| show(args, &ours)).await;
    let misled = guarded
        .world(|args| {
            args.source.prometheus_ca_file = vec![for_all(&stranger.file)];
            show(args, &ours);
        })
        .await;
    for (name, world, reason) in [
        // With TLS 1.3 the refusal may come before or with the end of the connection.
        ("no certificate", &nobody, "connection"),
        ("somebody else's", &wrong, "connection"),
        ("an authority that the machine does not know", &naive, "invalid peer certificate"),
        ("another authority", &misled, "invalid peer certificate"),
    ] {
        let found = world.analyse(analysis("good")).await.expect(name);
        assert_eq!(found.verdict(), Verdict::ProviderError, "{name}: {}", found.explanation);
        assert!(found.explanation.contains("cannot be reached"), "{name}: {}", found.explanation);
        assert!(found.explanation.contains(reason), "{name}: {}", found.explanation);
    }

    // The same files, with what was issued later.
    for (from, to) in [(&ours.0, &foreign.0), (&ours.1, &foreign.1)] {
        std::fs::copy(from, to).expect("renewed");
    }
    wrong.clock.advance(SignedDuration::from_secs(10));
    let renewed = wrong.analyse(analysis("good")).await.expect("an analysis");
    assert_eq!(renewed.verdict(), Verdict::Healthy, "{}", renewed.explanation);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_without_their_content() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name);
    let authority = Authority::new(directory.path(), "authority");
    let (cert, key) = authority.issue(directory.path(), "collector");
    let (_, other_key) = authority.issue(directory.path(), "other");
    std::fs::write(file("broken.pem"), "-----BEGIN PRIVATE KEY-----\ntell-nobody\n").expect("written");
    std::fs::write(file("empty.pem"), "").expect("written");
    type Setup<'a> = &'a dyn Fn(&mut Args);
    let cases: [(&str, Setup<'_>); 5] = [
        ("broken.pem are no certificate and key in PEM", &|args| show(args, &(cert.clone(), file("broken.pem")))),
        ("none.pem: No such file", &|args| show(args, &(file("none.pem"), key.clone()))),
        ("empty.pem holds no certificates in PEM", &|args| {
            args.source.prometheus_ca_file = vec![for_all(&file("empty.pem"))];
        }),
        ("none.pem: No such file", &|args| args.source.prometheus_ca_file = vec![for_all(&file("none.pem"))]),
        ("builder error", &|args| show(args, &(cert.clone(), other_key.clone()))),
    ];
    for (reason, setup) in cases {
        let world = World::with_args(Source::Address("https://127.0.0.1:1".to_owned()), |args, _| setup(args)).await;
        let found = world.analyse(analysis("good")).await.expect("an analysis");
        assert_eq!(found.verdict(), Verdict::ProviderError, "{reason}: {}", found.explanation);
        assert!(found.explanation.contains(reason), "{reason}: {}", found.explanation);
        assert!(found.explanation.starts_with("the file with the credentials for Prometheus at https://127.0.0.1:1"));
        assert!(!found.explanation.contains("tell-nobody"), "{}", found.explanation);
    }
    let half = refused(|args, _| args.source.prometheus_cert_file = vec![for_all(&cert)]).await;
    assert_eq!(half, "--prometheus-cert-file and --prometheus-key-file belong together, and only one is given");
    let west = format!("west={}", key.display()).parse().expect("a file of the west");
    let half = refused(|args, _| {
        args.source.prometheus = vec!["west=https://127.0.0.1:1".parse().expect("an address")];
        args.source.prometheus_key_file = vec![west];
    });
    assert!(half.await.ends_with("only one is given for the cluster \"west\""));
}
