use serde_json::json;

use super::{BEHIND, EventLog, Happened, Kind, REMEMBERED};

fn happened(number: usize) -> Happened {
    Happened::normal(Kind::ConfigPublished, "", number.to_string())
}

#[test]
fn the_ring_keeps_the_last_events_and_their_numbers() {
    let log = EventLog::default();
    for number in 1..=REMEMBERED + 5 {
        log.record(happened(number));
    }
    let all = log.last(usize::MAX);
    assert_eq!(all.len(), REMEMBERED);
    assert_eq!(all[0].sequence, 6, "the oldest went");
    let two = log.last(2);
    let messages: Vec<String> = two.iter().map(|event| event.message.clone()).collect();
    assert_eq!(messages, [(REMEMBERED + 4).to_string(), (REMEMBERED + 5).to_string()]);
}

#[tokio::test]
async fn a_follower_hears_what_comes_after_the_last_it_was_given() {
    let log = EventLog::default();
    log.record(happened(1));
    let (before, mut follower) = log.follow(10);
    log.record(happened(2));
    assert_eq!(before.len(), 1);
    assert_eq!(follower.next().await.expect("an event").sequence, 2);
}

#[tokio::test]
async fn a_slow_follower_is_told_how_many_it_lost_and_goes_on() {
    let log = EventLog::default();
    let (_, mut follower) = log.follow(0);
    for number in 1..=BEHIND + 7 {
        log.record(happened(number));
    }
    let lost = follower.next().await.expect("an event");
    assert_eq!((lost.kind, lost.sequence), (Kind::EventsLost, 0));
    assert_eq!(lost.details, json!({"count": 7}));
    assert_eq!(follower.next().await.expect("an event").sequence, 8, "the oldest that is still there");
}

#[tokio::test]
async fn a_follower_ends_with_the_log() {
    let log = EventLog::default();
    let (_, mut follower) = log.follow(0);
    drop(log);
    assert!(follower.next().await.is_none());
}

#[test]
fn the_fields_of_an_event_are_named_as_documented() {
    let log = EventLog::default();
    log.record(Happened::warning(Kind::XdsRefused, "listener a", "no").with(json!({"name": "a"})));
    let shown = serde_json::to_value(&*log.last(1)[0]).expect("plain data");
    let mut fields: Vec<&String> = shown.as_object().expect("an object").keys().collect();
    fields.sort();
    assert_eq!(fields, ["details", "kind", "message", "sequence", "severity", "subject", "time"]);
    assert_eq!(shown["kind"], "xds-refused");
    assert_eq!(shown["severity"], "warning");
}
