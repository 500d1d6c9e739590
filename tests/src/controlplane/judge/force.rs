//! Which of the sizes that were asked for are in force: still acted upon, for all that is known.

/// The bounds that one generation of an object asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub generation: i64,
    /// There may be no more pods.
    pub most: i32,
    /// No pod may be taken away of which fewer would be left.
    pub least: i32,
}

/// The generations in force, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct InForce(Vec<Bounds>);

impl InForce {
    /// Something was asked for.
    pub fn ask(&mut self, bounds: Bounds) {
        if self
            .0
            .last()
            .is_none_or(|last| last.generation < bounds.generation)
        {
            self.0.push(bounds);
        }
    }

    /// The generation `observed` is the one that is followed, if `follows` says so of its bounds: those before it are not
    /// in force any more.
    pub fn retire(&mut self, observed: i64, follows: impl Fn(&Bounds) -> bool) {
        let position = self
            .0
            .iter()
            .rposition(|bounds| bounds.generation <= observed);
        if let Some(position) = position
            && position > 0
            && follows(&self.0[position])
        {
            self.0.drain(..position);
        }
    }

    /// The largest size.
    pub fn most(&self) -> i32 {
        self.0
            .iter()
            .map(|bounds| bounds.most)
            .max()
            .unwrap_or_default()
    }

    /// The smallest size.
    pub fn least(&self) -> i32 {
        self.0
            .iter()
            .map(|bounds| bounds.least)
            .min()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_size_is_in_force_until_a_newer_one_is_followed() {
        let bounds = |generation, most| Bounds {
            generation,
            most,
            least: most - 2,
        };
        let mut force = InForce::default();
        force.ask(bounds(1, 10));
        force.ask(bounds(2, 4));
        force.ask(bounds(2, 4));
        assert_eq!((force.most(), force.least()), (10, 2));
        force.retire(1, |_| true);
        force.retire(2, |bounds| bounds.most >= 9);
        assert_eq!(
            force.most(),
            10,
            "nine pods are more than the newer one allows"
        );
        force.retire(2, |bounds| bounds.most >= 4);
        assert_eq!((force.most(), force.least()), (4, 2));
    }
}
