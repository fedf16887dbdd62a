//! Processes that die, are replaced, or are away.

use crate::fixture::fault;

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_an_agent_killed_at_50_random_moments_costs_no_connection_and_prunes_nothing() {
    fault("kernel_an_agent_killed_at_50_random_moments_costs_no_connection_and_prunes_nothing", "agent-killed");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_without_an_agent_for_20_s_a_killed_worker_serves_the_last_good_configuration() {
    fault("kernel_without_an_agent_for_20_s_a_killed_worker_serves_the_last_good_configuration", "agent-away");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_killed_worker_is_replaced_within_2_s_and_waiting_connections_are_answered() {
    fault("kernel_a_killed_worker_is_replaced_within_2_s_and_waiting_connections_are_answered", "worker-killed");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_killed_starter_is_replaced_by_the_agent_and_nothing_hangs() {
    fault("kernel_a_killed_starter_is_replaced_by_the_agent_and_nothing_hangs", "starter-killed");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_ten_replacements_of_the_proxy_lose_none_of_35000_requests() {
    fault("kernel_ten_replacements_of_the_proxy_lose_none_of_35000_requests", "proxy-upgraded");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_after_everything_was_killed_the_clean_up_leaves_nothing() {
    fault("kernel_after_everything_was_killed_the_clean_up_leaves_nothing", "cleaned-up");
}

#[test]
fn a_backend_that_dies_in_mid_body_is_never_taken_for_a_whole_answer() {
    crate::fixture::plain_fault("backend-dies");
}
