//! What is counted of webhooks.

use super::Page;
use crate::daemon::request::HookView;

pub(super) fn of_webhooks(page: &mut Page, hooks: &[HookView], missed: u64) {
    page.family("xpxe_webhook_waiting", "gauge", "Deliveries that wait for a webhook's receiver.");
    hooks.iter().for_each(|hook| page.sample(&[("webhook", &hook.name)], hook.waiting));
    page.family("xpxe_webhook_dead_letters", "gauge", "Deliveries that were given up and are kept.");
    hooks.iter().for_each(|hook| page.sample(&[("webhook", &hook.name)], hook.dead));
    page.family("xpxe_webhook_events_total", "counter", "Events for webhooks by what became of them.");
    for hook in hooks {
        for (end, count) in [("delivered", hook.delivered), ("dead", hook.died), ("lost", hook.lost)] {
            page.sample(&[("webhook", &hook.name), ("end", end)], count);
        }
    }
    page.family("xpxe_webhook_failed_tries_total", "counter", "Tries to deliver that failed.");
    hooks.iter().for_each(|hook| page.sample(&[("webhook", &hook.name)], hook.failed_tries));
    page.family(
        "xpxe_webhook_missed_total",
        "counter",
        "Events that came faster than webhooks could take them.",
    );
    page.sample(&[], missed);
}
