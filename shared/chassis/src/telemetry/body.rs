//! A body that notices how its call ends: by trailers, by an error, or by being dropped.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};

/// Called once with the final status code.
type OnEnd = Box<dyn FnOnce(Code) + Send>;

/// Wraps a response body and reports the gRPC status once, whatever happens: the `grpc-status` trailer, INTERNAL if the
/// body breaks, CANCELLED if it is dropped before its end.
pub struct Observed<B> {
    inner: Pin<Box<B>>,
    on_end: Option<OnEnd>,
}

impl<B: Body> Observed<B> {
    /// Watches `inner`. `headers` are the response's: a status there (a response without messages) is reported at once.
    pub fn new(inner: B, headers: &HeaderMap, on_end: impl FnOnce(Code) + Send + 'static) -> Self {
        let mut observed = Self { inner: Box::pin(inner), on_end: Some(Box::new(on_end)) };
        if let Some(status) = Status::from_header_map(headers) {
            observed.end(status.code());
        }
        observed
    }

    fn end(&mut self, code: Code) {
        if let Some(on_end) = self.on_end.take() {
            on_end(code);
        }
    }
}

impl<B: Body> Body for Observed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.end(status.code());
                }
            }
            Some(Err(_)) => self.end(Code::Internal),
            // A gRPC body without a status trailer is broken.
            None => self.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Observed<B> {
    fn drop(&mut self) {
        if let Some(on_end) = self.on_end.take() {
            on_end(Code::Cancelled);
        }
    }
}
