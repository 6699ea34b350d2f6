//! A whole process: start, serve, SIGTERM, the last spans exported, exit code. Alone in its binary, for signals and the
//! log subscriber belong to the process.

use std::{process::ExitCode, sync::mpsc};

use meshward_chassis::{client, server, testing::TestIssuer};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

struct Collector(mpsc::Sender<(String, Span)>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for group in request.into_inner().resource_spans {
            let resource = format!("{:?}", group.resource);
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.send((resource.clone(), span)).map_err(|_| Status::unavailable("the test is over"))?;
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The address of an OTLP receiver that hands each span on with its resource.
fn collector(runtime: &tokio::runtime::Runtime) -> (String, mpsc::Receiver<(String, Span)>) {
    let (sender, receiver) = mpsc::channel();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let router = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    runtime.spawn(router.serve_with_incoming(incoming));
    (url, receiver)
}

/// What an operator does: a probe, then SIGTERM.
async fn probe_and_terminate(url: String) {
    let channel = client::connect_lazy(&url).expect("an endpoint");
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.expect("it serves");
    let pid = std::process::id().to_string();
    let killed = tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs");
    assert!(killed.success());
}

#[test]
fn a_process_serves_until_sigterm_and_exports_its_spans() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (endpoint, spans) = collector(&runtime);
    let dir = tempfile::tempdir().expect("a directory");
    let mut args = TestIssuer::new(dir.path()).expect("an issuer").server_args();
    args.telemetry.otlp_endpoint = Some(endpoint);
    let code = server::run("meshward-example", &args, |server| async move {
        tokio::spawn(probe_and_terminate(format!("http://{}", server.bound_addr())));
        Ok(server)
    });
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    let spans: Vec<(String, Span)> = spans.try_iter().collect();
    let served = spans.iter().find(|(_, span)| span.name == "grpc.health.v1.Health/Check" && span.kind == 2);
    let (resource, span) = served.expect("the server's span was exported before the exit");
    assert!(resource.contains("meshward-example") && resource.contains("service.version"), "{resource}");
    let caller = spans.iter().find(|(_, caller)| caller.span_id == span.parent_span_id).expect("the client's span too");
    assert_eq!(caller.1.trace_id, span.trace_id);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    args.listen = taken.local_addr().expect("an address");
    let code = server::run("meshward-example", &args, |server| async move { Ok(server) });
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)), "the configuration cannot be used");
    let code = server::run(
        "meshward-example",
        &TestIssuer::new(dir.path()).expect("an issuer").server_args(),
        |_| async move { anyhow::bail!("the database is gone") },
    );
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
}
