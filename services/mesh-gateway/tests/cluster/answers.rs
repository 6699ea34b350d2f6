//! The answer for several objects speaks for all of them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use meshward_chassis::clock::SystemClock;
use meshward_mesh_gateway::{
    app::Gateway,
    clusters::{Clusters, Member},
    proof::{Content, Expected, Look, Patience, Plane, ProxyLook},
};
use meshward_model::{Mechanism, PropagationState, Weight};

use super::{
    behind::{at, given, server},
    contract::target_of,
};

/// A control plane whose proxies all have the Server `cart`, and none of them any other.
struct Cart;

#[async_trait]
impl Plane for Cart {
    async fn look(&self, expected: &Expected) -> Result<Look, String> {
        let proxy = |index| ProxyLook {
            name: format!("cart-{index}.shop"),
            content: Content::Shows,
            pushed: true,
            nonce: String::new(),
            acknowledged: true,
            error: None,
        };
        let proxies = (0..3).filter(|_| expected.target.name == "cart").map(proxy).collect();
        Ok(Look { proxies, ..Look::default() })
    }
}

/// Seen with a whole Linkerd: the Server of the canary's pods has no pod yet, is waited for a second in case that one
/// comes, and "live on 0/0 proxies" was said of both.
pub async fn whoever_is_concerned_is_counted_and_every_wait_is() {
    let clusters = Clusters::new("");
    clusters.put(Member::new("", Arc::new(given().await), Arc::new(Cart)));
    let gateway = Gateway::new(Arc::new(clusters), Arc::new(SystemClock));
    let half = Weight::from_basis_points(5000).expect("a weight");
    let canary = server("HTTP/2");
    let planned = gateway.plan(&target_of(&canary), &canary, &[half], Some(Mechanism::Instance)).await;
    let intent = at(&planned.expect("a plan").1, 1, 5000);
    let mut objects = gateway.expose(&intent, 0).await.expect("it is exposed").objects;
    assert_eq!(objects.iter().map(|applied| &*applied.target.name).collect::<Vec<_>>(), ["cart", "cart-meshward"]);
    let patience = Patience { timeout: Duration::from_mins(1), quorum: Weight::ZERO };
    for _ in 0..2 {
        let proof = gateway.verify(&intent, &objects, patience).await.expect("an answer");
        assert_eq!((proof.state, proof.concerned, proof.acknowledged), (PropagationState::Live, 3, 3), "{proof:?}");
        assert!(proof.message.starts_with("live on 3/3 proxies"), "{}", proof.message);
        assert!(proof.elapsed_ms >= 1000, "from the start of the call: {proof:?}");
        objects.reverse();
    }
}
