//! What the page of metrics says.

use super::*;

#[test]
fn the_lines_of_a_metric_are_sorted_by_their_labels() {
    let metrics = Metrics::new();
    for name in ["g", "c", "a", "e", "b", "d", "f"] {
        metrics.observe_restarts(name, 1);
    }
    let mut lines = metrics.lines();
    lines.retain(|(name, _)| name.contains("restarts"));
    assert!(lines.len() == 7 && lines.is_sorted(), "{lines:?}");
}

#[test]
fn the_page_has_every_metric_of_the_table() {
    let metrics = Metrics::new();
    metrics.cache("course").hit.inc();
    // A family shows once it has a member.
    metrics.refused_connection("handshake");
    metrics.observe_targets(true, true);
    metrics.limit("api").allowed.inc();
    metrics.passed("done");
    metrics.asked_index("whole");
    metrics.met_redis("known");
    metrics.refused_message("broken");
    metrics.observe_restarts("cache-0", 1);
    metrics.observe_mailbox("cache-0", 1);
    let (source, kind) = ("command", "exact");
    let invalidated = SourceKind { source, kind };
    metrics.invalidations.get_or_create(&invalidated).inc();
    metrics.timings.invalidated("outbox", 0.02);
    metrics.locks.waited("acquired", 0.02);
    metrics.journal.counted("saved", 1);
    metrics.warm.ran("course", "done");
    let page = metrics.render();
    for metric in METRICS {
        let name = metric.name.trim_end_matches("_total");
        assert!(page.contains(&format!("# HELP {name} ")), "{name}\n{page}");
    }
    assert!(page.contains("cachewarden_reads_total{cache=\"course\",state=\"hit\"} 1"));
}
