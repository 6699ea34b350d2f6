//! How many requests each cohort got, as Envoy itself counted them.

use anyhow::Context as _;

/// Completed requests since Envoy started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cohorts {
    /// Through routes of the canary.
    pub canary: u64,
    /// Through routes of the control.
    pub stable: u64,
}

impl Cohorts {
    /// Reads Envoy's counters.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn read(admin_url: &str) -> anyhow::Result<Self> {
        let url = format!(r"{admin_url}/stats?filter=route\.(canary|stable)\.upstream_rq_completed$");
        let text = reqwest::get(url).await.context("Envoy's counters")?.text().await?;
        Ok(Self { canary: sum(&text, ".route.canary."), stable: sum(&text, ".route.stable.") })
    }

    /// What came since an earlier look. A counter that fell began anew: Envoy drops the statistics of routes that are gone.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let grown = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Self { canary: grown(self.canary, earlier.canary), stable: grown(self.stable, earlier.stable) }
    }

    /// Both together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.canary + self.stable
    }

    /// The canary's part; `None` without requests.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "request counts stay far below 2^52")]
    pub fn share(self) -> Option<f64> {
        (self.total() > 0).then(|| self.canary as f64 / self.total() as f64)
    }
}

/// Lines are "name: value".
fn sum(text: &str, part: &str) -> u64 {
    let values = text
        .lines()
        .filter(|line| line.contains(part))
        .filter_map(|line| line.rsplit(": ").next()?.parse::<u64>().ok());
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_by_cohort() {
        let text = "vhost.a:80.route.canary.upstream_rq_completed: 10\nvhost.b:80.route.canary.upstream_rq_completed: 5\n\
                    vhost.a:80.route.stable.upstream_rq_completed: 45\n";
        let now = Cohorts { canary: sum(text, ".route.canary."), stable: sum(text, ".route.stable.") };
        assert_eq!(now, Cohorts { canary: 15, stable: 45 });
        assert_eq!(now.share(), Some(0.25));
        assert_eq!(
            now.since(Cohorts { canary: 5, stable: 50 }),
            Cohorts { canary: 10, stable: 45 },
            "stable began anew"
        );
        assert_eq!(Cohorts::default().share(), None);
    }
}
