//! Chance that repeats: the same seed gives the same numbers on every machine.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From several numbers that together name one draw.
    #[must_use]
    pub fn of(parts: &[u64]) -> Self {
        Self(Self::seed_of(parts))
    }

    /// One seed from several numbers, in their order.
    #[must_use]
    pub fn seed_of(parts: &[u64]) -> u64 {
        let mut state = Self(0x6d65_7368_7761_7264);
        for part in parts {
            state = Self(state.bits() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        state.bits()
    }

    /// All 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.unit().max(f64::MIN_POSITIVE), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Poisson; beyond a mean of 40 the normal distribution that is hardly told from it.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 40.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// Binomial: exactly for few trials, else the nearest of Poisson and normal.
    pub fn binomial(&mut self, trials: u64, probability: f64) -> u64 {
        let probability = probability.clamp(0.0, 1.0);
        if probability > 0.5 {
            return trials - self.binomial(trials, 1.0 - probability);
        }
        let mean = trials as f64 * probability;
        if trials <= 40 {
            return (0..trials).map(|_| u64::from(self.unit() < probability)).sum();
        }
        if mean <= 20.0 {
            return self.poisson(mean).min(trials);
        }
        let spread = (mean * (1.0 - probability)).sqrt();
        ((mean + spread * self.normal()).round().max(0.0) as u64).min(trials)
    }

    /// Geometric on 1, 2, 3, ... with this mean.
    pub fn geometric(&mut self, mean: f64) -> u64 {
        if mean <= 1.0 {
            return 1;
        }
        let stay = 1.0 - mean.recip();
        1 + (self.unit().max(f64::MIN_POSITIVE).ln() / stay.ln()).floor() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_variances_are_right() {
        let mut chance = Chance::new(1);
        let mut moments = |draw: &dyn Fn(&mut Chance) -> f64| {
            let values: Vec<f64> = (0..20_000).map(|_| draw(&mut chance)).collect();
            let mean = values.iter().sum::<f64>() / 20_000.0;
            (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 20_000.0)
        };
        type Draw = fn(&mut Chance) -> f64;
        let cases: [(&str, Draw, f64, f64); 7] = [
            ("normal", |c| c.normal(), 0.0, 1.0),
            ("small Poisson", |c| c.poisson(3.0) as f64, 3.0, 3.0),
            ("large Poisson", |c| c.poisson(400.0) as f64, 400.0, 400.0),
            ("few trials", |c| c.binomial(20, 0.9) as f64, 18.0, 1.8),
            ("rare", |c| c.binomial(2000, 0.004) as f64, 8.0, 8.0),
            ("many", |c| c.binomial(1000, 0.3) as f64, 300.0, 210.0),
            ("geometric", |c| c.geometric(5.0) as f64, 5.0, 20.0),
        ];
        for (name, draw, mean, variance) in cases {
            let (found_mean, found_variance) = moments(&draw);
            let error = 5.0 * (variance / 20_000.0).sqrt();
            assert!((found_mean - mean).abs() < error, "{name}: mean {found_mean}");
            assert!((found_variance / variance - 1.0).abs() < 0.12, "{name}: variance {found_variance}");
        }
    }
}
