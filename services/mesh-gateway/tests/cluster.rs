//! The gateway against a real kube-apiserver, istiod and Envoys, over gRPC in process.
//!
//! One stack serves all scenarios of a test, one after the other, each on an object of its own; the tests have a stack
//! each and run one after the other too. What is about Kubernetes alone needs API servers only. Run
//! `deploy/local/install stack` once before.

#[path = "cluster/alone.rs"]
mod alone;
#[path = "cluster/answers.rs"]
mod answers;
#[path = "cluster/audiences.rs"]
mod audiences;
#[path = "cluster/authorization.rs"]
mod authorization;
#[path = "cluster/behind.rs"]
mod behind;
#[path = "cluster/between.rs"]
mod between;
#[path = "cluster/caches.rs"]
mod caches;
#[path = "cluster/clusters.rs"]
mod clusters;
#[path = "cluster/cohorts.rs"]
mod cohorts;
#[path = "cluster/cohorts_of_kinds.rs"]
mod cohorts_of_kinds;
#[path = "cluster/connections.rs"]
mod connections;
#[path = "cluster/contract.rs"]
mod contract;
#[path = "cluster/destination_rule.rs"]
mod destination_rule;
#[path = "cluster/drift.rs"]
mod drift;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/gateways.rs"]
mod gateways;
#[path = "cluster/instances.rs"]
mod instances;
#[path = "cluster/life.rs"]
mod life;
#[path = "cluster/losing.rs"]
mod losing;
#[path = "cluster/newcomers.rs"]
mod newcomers;
#[path = "cluster/overtaken.rs"]
mod overtaken;
#[path = "cluster/rights.rs"]
mod rights;
#[path = "cluster/scenarios.rs"]
mod scenarios;
#[path = "cluster/shadow.rs"]
mod shadow;
#[path = "cluster/virtual_services.rs"]
mod virtual_services;
#[path = "cluster/ways.rs"]
mod ways;
#[path = "cluster/world.rs"]
mod world;

use std::{any::type_name, time::Instant};

use tokio::sync::Mutex;
use world::World;

/// One stack at a time: two cores are soon busy.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Says how long a scenario took, by its name.
async fn timed<F: Future>(scenario: F) -> F::Output {
    let began = Instant::now();
    let outcome = scenario.await;
    println!("{:>6.1} s: {}", began.elapsed().as_secs_f64(), type_name::<F>().trim_end_matches("::{{closure}}"));
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn cohorts_of_pods_on_a_real_control_plane() {
    let _alone = ALONE.lock().await;
    let world = timed(World::start()).await;
    timed(cohorts::each_pod_is_governed_by_one_version(&world)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_pod_by_pod_and_dry_runs() {
    let _alone = ALONE.lock().await;
    let services = timed(destination_rule::Services::start()).await;
    let world = timed(World::start_before(services.addresses())).await;
    timed(shadow::what_it_would_decide_is_counted_and_nobody_is_exposed(&world)).await;
    timed(cohorts_of_kinds::every_kind_is_proven_live(&world)).await;
    timed(gateways::each_pod_serves_one_version(&world)).await;
    world.stop().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_on_a_real_control_plane() {
    let _alone = ALONE.lock().await;
    let world = timed(World::start()).await;
    timed(scenarios::exposed_step_by_step_and_restored_byte_for_byte(&world)).await;
    timed(scenarios::aborted_before_the_first_write_came(&world)).await;
    timed(scenarios::promoted_and_then_rolled_back(&world)).await;
    timed(scenarios::what_is_called_live_is_live_also_while_others_write(&world)).await;
    timed(scenarios::blended_weights(&world)).await;
    timed(scenarios::a_field_that_apply_would_leave_behind(&world)).await;
    timed(scenarios::a_restore_that_crashes_half_way_is_finished(&world)).await;
    timed(scenarios::an_absence_is_restored(&world)).await;
    timed(virtual_services::a_gateway_host_that_is_shared_is_refused(&world)).await;
    timed(virtual_services::a_delegate_is_exposed_through_its_root(&world)).await;
    timed(connections::shared_by_weight(&world)).await;
    timed(scenarios::drift_is_named(&world)).await;
    timed(scenarios::a_proxys_refusal_is_reported_in_its_words(&world)).await;
    timed(scenarios::dry_runs_say_what_production_would_say(&world)).await;
    timed(scenarios::a_control_plane_that_cannot_be_asked_is_unknown(&world)).await;
    timed(scenarios::missing_rights_are_named(&world)).await;
    timed(scenarios::callers_are_held_to_their_roles(&world)).await;
    timed(instances::a_service_is_listed_page_by_page(&world)).await;
    timed(instances::what_cannot_be_listed_is_told(&world)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authorization_policies_with_requests_through_an_envoy() {
    let _alone = ALONE.lock().await;
    let world = timed(World::start()).await;
    timed(authorization::what_would_hit_connections_is_refused(&world)).await;
    let server = timed(authorization::Caller::start(&world)).await;
    timed(authorization::requests_are_decided_by_the_version_of_their_id(&world, &server)).await;
    timed(authorization::a_first_policy_comes(&world, &server)).await;
    timed(authorization::the_last_policy_goes_and_comes_back(&world, &server)).await;
    timed(authorization::an_action_changes(&world, &server)).await;
    server.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_on_api_servers_alone() {
    let _alone = ALONE.lock().await;
    let log = alone::Log::capture();
    let world = alone::Alone::new();
    let (a, b) = tokio::join!(world.server("a"), world.server("b"));
    timed(clusters::each_name_is_a_cluster_of_its_own(&world, &log, &a, &b)).await;
    timed(caches::one_list_per_kind_however_many_plans_and_pages(&world, &a)).await;
    timed(caches::a_write_is_seen_by_who_names_its_version(&a)).await;
    timed(caches::an_unused_watch_ends_and_begins_anew(&a)).await;
    timed(caches::what_cannot_be_kept_is_listed_each_time(&world, &a)).await;
    timed(faults::every_verb_survives_a_bad_way(&world, &a)).await;
    timed(drift::what_a_mesh_reads_of_annotations_is_drift(&world, &a)).await;
    let real = timed(contract::Real::new(&world, &a)).await;
    timed(between::every_pod_that_is_older_than_the_narrowing_is_labelled(&real)).await;
    timed(contract::every_cluster_keeps_to_it(&real)).await;
    a.stop().await;
    b.stop().await;
}

/// With no other rights than those that the gateway says it needs: lives, drift, cohorts and lists.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_with_exactly_its_rights() {
    let _alone = ALONE.lock().await;
    let world = alone::Alone::new();
    let server = world.server("a").await;
    world.add_linkerds_kinds(&server).await;
    world.add_gateways(&server).await;
    timed(rights::they_are_enough_and_each_is_used(&world, &server)).await;
    timed(rights::a_missing_one_is_named(&world, &server)).await;
    timed(rights::a_missing_list_is_named(&world, &server)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_pods_without_an_admission_policy() {
    timed(newcomers::a_ready_pod_without_a_label_is_pending_by_name()).await;
    let _alone = ALONE.lock().await;
    let world = alone::Alone::new();
    let server = world.server("a").await;
    timed(caches::one_list_per_kind_however_often_pods_are_divided(&world, &server, "watching-alone")).await;
    timed(newcomers::new_pods_are_labelled_where_the_admission_policy_cannot_be_told(&world, &server)).await;
    // Now it is installed, and this account may tell it.
    timed(caches::one_list_per_kind_however_often_pods_are_divided(&world, &server, "telling")).await;
    server.stop().await;
}

/// On a stack of its own, since its services are called.
#[tokio::test(flavor = "multi_thread")]
async fn callers_and_their_requests_on_a_real_control_plane() {
    let _alone = ALONE.lock().await;
    let services = timed(destination_rule::Services::start()).await;
    let world = timed(World::start_before(services.addresses())).await;
    timed(audiences::a_header_or_a_cookie_chooses_the_version(&world)).await;
    timed(audiences::each_calling_pod_is_governed_by_one_version(&world)).await;
    timed(audiences::a_copy_serves_the_namespaces_that_it_is_shown_to(&world)).await;
    timed(audiences::a_rule_is_given_to_some_of_the_pods_that_call(&world)).await;
    timed(audiences::a_rule_is_given_to_callers_in_another_namespace(&world)).await;
    timed(audiences::new_endpoints_get_their_weight(&world, &services.addresses())).await;
    timed(audiences::an_entry_is_given_to_namespaces_that_call(&world, &services.addresses())).await;
    timed(virtual_services::a_deletion_is_released_like_a_change(&world)).await;
    timed(destination_rule::exposed_step_by_step_under_load(&world)).await;
    timed(destination_rule::a_limit_that_is_removed_and_a_host_without_routes(&world, &services)).await;
    timed(destination_rule::a_rule_that_is_new_and_then_goes(&world, &services)).await;
    timed(destination_rule::a_change_of_the_routes_is_named(&world)).await;
    timed(destination_rule::a_change_of_the_routes_after_the_end_is_left_alone(&world)).await;
    timed(destination_rule::a_missing_subset_loses_requests(&world)).await;
    world.stop().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_in_memory_keep_to_the_contract() {
    behind::who_was_not_told_of_a_label_takes_it_away_all_the_same().await;
    behind::a_gateway_alone_lists_its_pods_once().await;
    answers::whoever_is_concerned_is_counted_and_every_wait_is().await;
    let memory = contract::Memory::new();
    timed(between::every_pod_that_is_older_than_the_narrowing_is_labelled(&memory)).await;
    timed(contract::every_cluster_keeps_to_it(&memory)).await;
    timed(life::every_adapter_keeps_to_it(&memory, usize::MAX)).await;
    timed(overtaken::who_is_behind_is_told_of_strangers_only(&memory)).await;
}
