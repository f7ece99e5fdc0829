//! The rules that every engine keeps, as a suite over `Arc<dyn Store>`.
//!
//! To add an engine: a module in the macro below that opens an empty store for each rule. To add a rule: a function
//! in the module of its area, and its name in the list below.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod approvals;
mod areas;
mod exports;
mod fixtures;
mod jobs;
mod key_sets;
mod log;
mod notices;
mod observations;
mod passkeys;
mod publications;
mod races;
mod retention;
mod runs;
#[allow(
    dead_code,
    reason = "shared with the tests of PostgreSQL, which use all of it"
)]
mod server;
mod sessions;
mod task_calls;
mod tokens;

/// Runs each rule on each engine, on an empty store of its own.
macro_rules! suite {
    ($($area:ident: $($rule:ident),+ $(,)?;)+) => {
        mod sqlite_file {
            $(mod $area {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let folder = tempfile::tempdir().unwrap();
                    let store = store::open_sqlite(&folder.path().join("store.db")).unwrap();
                    crate::$area::$rule(store).await;
                }
            )+})+
        }
        mod sqlite_memory {
            $(mod $area {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    crate::$area::$rule(store::open_sqlite_in_memory().unwrap()).await;
                }
            )+})+
        }
        mod postgres_server {
            $(mod $area {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    if let Some(schema) = crate::server::Schema::new() {
                        crate::$area::$rule(schema.open()).await;
                    }
                }
            )+})+
        }
    };
}

/// Runs races between three gateways on one database.
macro_rules! replicas {
    ($($rule:ident),+ $(,)?) => {
        mod postgres_replicas {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some(schema) = crate::server::Schema::new() {
                    let others = vec![schema.open(), schema.open()];
                    let rule = crate::races::$rule(schema.open());
                    crate::races::OTHERS.scope(others, rule).await;
                }
            }
        )+}
    };
}

replicas! {
    appends_leave_no_gaps,
    one_holder_wins,
    one_transition_wins,
    one_apply_begins,
    an_elevated_token_is_used_once,
    two_approvers_at_once_are_both_recorded,
    approval_and_denial_at_once_end_in_denial,
    a_budget_is_not_overdrawn,
    one_closing_wins,
}

suite! {
    areas:
        a_contract_is_published_once_and_under_one_name,
        a_version_takes_the_place_of_the_one_in_force_only,
        versions_are_numbered_and_listed,
        a_second_authors_signature_is_kept,
        a_withdrawn_contract_stays_readable_and_grounds_nothing_new,
        objects_keep_their_first_workspace_and_owner,
        learning_is_all_or_nothing,
        a_bundle_seals_a_closed_job_once,
        operators_are_found_by_credential_only_while_they_are_there,
        actions_are_listed_newest_first,
        budgets_admit_up_to_the_limit_and_not_beyond,
        a_reservation_is_settled_once,
        a_key_belongs_to_one_request,
        whoever_waits_is_told_of_a_commit;
    exports:
        the_log_is_read_in_its_order_with_what_belongs_to_it,
        a_time_is_found_in_the_log,
        actions_are_read_in_their_order;
    jobs:
        a_job_opens_once_and_under_a_contract_in_force,
        closing_counts_its_own_record_and_ends_the_job,
        closing_cuts_off_what_is_in_flight,
        jobs_are_listed_newest_first_in_pages,
        jobs_are_found_by_what_is_known_of_them,
        counters_follow_the_records;
    log:
        only_calls_are_appended_on_their_own,
        an_outcome_answers_one_intent_once,
        a_receipt_is_the_one_that_the_outcome_names,
        a_receipt_is_found_wherever_its_call_ended,
        an_outcome_counts_even_when_an_id_belongs_elsewhere,
        times_do_not_run_backwards,
        numbers_that_readers_write_differently_are_refused,
        pages_give_every_record_once,
        the_latest_refusals_are_found,
        the_chain_equals_that_of_the_bundle,
        records_keep_their_canonical_form,
        the_bytes_of_records_are_counted,
        roots_and_paths_equal_the_definition_across_a_tile,
        checkpoints_cover_what_is_there,
        a_refused_write_spoils_no_other_of_its_batch;
    key_sets:
        a_key_set_is_a_leaf_that_belongs_to_no_job,
        key_sets_are_numbered_without_gaps,
        tokens_are_found_by_the_key_that_signed_them;
    notices:
        a_state_is_told_once_and_to_each_channel,
        what_failed_is_told_again_when_it_is_due,
        only_what_stands_is_told,
        not_everything_is_worth_telling;
    observations:
        what_happens_once_is_observed_once,
        observations_are_listed_newest_first,
        the_first_look_is_the_baseline_and_later_ones_are_compared,
        only_what_was_seen_is_accepted;
    races:
        appends_leave_no_gaps,
        appends_keep_the_order_of_their_calls,
        one_holder_wins,
        one_transition_wins,
        one_apply_begins,
        an_elevated_token_is_used_once,
        two_approvers_at_once_are_both_recorded,
        approval_and_denial_at_once_end_in_denial,
        a_budget_is_not_overdrawn,
        one_closing_wins;
    runs:
        a_run_is_kept_as_it_was_given,
        an_update_changes_what_it_names_only,
        a_final_gate_is_not_left,
        an_apply_begins_with_its_intent_or_not_at_all,
        what_was_approved_does_not_change,
        active_runs_are_those_whose_gate_is_open,
        a_repeated_request_finds_its_run,
        a_configuration_keeps_owner_workspace_and_digest,
        the_objects_of_a_plan_are_read_in_pieces;
    approvals:
        an_approval_moves_the_gate,
        several_approvers_are_distinct_people,
        a_statement_is_used_once,
        a_denial_stops_an_approved_run_before_its_apply,
        nothing_counts_before_or_after_its_time,
        what_changed_voids_what_was_said,
        the_statement_is_the_signed_one,
        a_closed_job_takes_no_approval;
    sessions:
        a_session_ends_with_its_operators_credential,
        sessions_are_bounded_and_ended_by_their_operator,
        a_session_ends_with_the_passkey_that_opened_it;
    passkeys:
        a_link_enrols_once,
        a_credential_is_enrolled_for_one_person_once,
        a_person_has_a_bounded_number_of_passkeys,
        a_counter_only_rises,
        a_statement_counts_with_its_passkey_only,
        key_and_passkey_of_one_person_are_one_voice;
    publications:
        a_link_is_good_until_it_ends,
        only_a_sealed_job_is_published_and_not_without_end;
    retention:
        what_is_needed_does_not_go,
        a_hold_stands_until_it_is_lifted,
        content_goes_and_the_log_stays,
        a_receipt_is_found_by_its_time,
        a_jobs_receipts_are_read_in_pages;
    task_calls:
        a_task_call_is_kept_once,
        what_upstream_was_told_about_a_call_stays,
        the_calls_of_a_run_are_listed_in_order;
    tokens:
        a_token_is_issued_for_its_job_and_contract,
        a_token_is_renewed_until_one_of_its_job_is_revoked,
        a_token_is_bound_to_its_first_holder,
        uses_are_noted_with_the_next_write,
        a_call_is_begun_within_the_tokens_life_only,
        a_job_is_closed_after_its_tokens_were_issued,
        a_revocation_is_written_in_all_three_places,
        a_token_of_a_closed_job_is_revoked_without_a_record,
        an_elevated_token_is_used_only_while_it_is_good;
}
