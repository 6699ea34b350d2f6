//! Linkerd's kinds on a real kube-apiserver, proven through a policy stream.
//!
//! Linkerd's controllers are in no registry: `meshward_local::linkerd` serves the stream that they serve, from the
//! objects in the API server. Run `deploy/local/install stack` once before.

#[path = "linkerd/by_route.rs"]
mod by_route;
#[path = "linkerd/lists.rs"]
mod lists;
#[path = "linkerd/moments.rs"]
mod moments;
#[path = "linkerd/proof.rs"]
mod proof;
#[path = "linkerd/release.rs"]
mod release;
#[path = "linkerd/releases.rs"]
mod releases;
#[path = "linkerd/world.rs"]
mod world;

use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_proven_through_the_policy_stream() {
    let mut world = World::start().await;
    proof::a_partition_of_servers(&world).await;
    proof::who_is_let_in(&world).await;
    proof::limits_and_routes_on_a_server(&world).await;
    proof::weights_of_a_service(&world).await;
    proof::what_the_controller_ignores_is_never_live(&world).await;
    proof::connections(&world).await;
    proof::networks_outside(&world).await;
    proof::a_controller_that_is_behind_is_waited_for(&world).await;
    proof::every_replica_counts(&world).await;
    proof::a_controller_that_is_down_is_unknown(&mut world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_go_step_by_step_and_back() {
    let world = World::start().await;
    releases::a_server_and_a_policy_pod_by_pod(&world).await;
    releases::a_route_by_weight(&world).await;
    moments::a_server(&world).await;
    moments::an_authorization(&world).await;
    by_route::a_share_of_the_requests(&world).await;
    by_route::some_of_the_clients(&world).await;
    by_route::a_count_of_what_would_be_denied(&world).await;
    lists::one_list_per_kind_however_many_looks(&world).await;
    world.stop().await;
}
