use serde_json::json;

use super::stat_lines;

#[test]
fn stats_print_one_number_a_line() {
    let stats = json!({"stats": [
        {"name": "cluster.web.upstream_rq_total", "value": 3},
        {"name": "listener.web.downstream_cx_active", "value": 0},
        {"histograms": {}},
    ]});
    assert_eq!(
        stat_lines(&stats),
        "cluster.web.upstream_rq_total: 3\nlistener.web.downstream_cx_active: 0\n"
    );
    assert_eq!(stat_lines(&json!(null)), "");
}
