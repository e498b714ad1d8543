//! Plain values: as they are, or, where they are whole numbers of some decimal place that lie near each other, in half or
//! a quarter of the memory. Reading those costs an addition each, and less memory has to be read.

use telemetry::stale_nan;

use crate::column::{POWERS_OF_TEN, SCALE_MAX, scaled};

/// A number of fewer bits than a value.
pub(crate) trait Number: Copy + Default + Eq + Into<f64> + TryFrom<i64> {
    /// Stands for a staleness marker.
    const STALE: Self;
}

impl Number for i32 {
    const STALE: i32 = i32::MIN;
}

impl Number for i16 {
    const STALE: i16 = i16::MIN;
}

/// Places whose values are allocated together.
const PAGE_PLACES: usize = 32;

/// How narrow numbers become values: `(base + number) / 10^scale`, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Code {
    /// A whole number.
    pub(crate) base: f64,
    pub(crate) scale: u8,
}

impl Code {
    /// Whether a code is worth looking for: what has few decimal places has them at the most places too.
    pub(crate) fn is_likely(values: &[f64]) -> bool {
        values.first().is_some_and(|value| is_stale(*value) || scaled(*value, SCALE_MAX).is_some())
    }

    /// A code for all of these, which are then written down in it. The newest is in the middle of what it has numbers
    /// for: a counter has come from below and goes up.
    pub(crate) fn of<N: Number>(values: &[f64], numbers: &mut [N]) -> Option<Code> {
        (0..=SCALE_MAX).find_map(|scale| {
            let newest = values.iter().rfind(|value| !is_stale(**value));
            let base = newest.map_or(Some(0), |value| scaled(*value, scale))?;
            let code = Code { base: base as f64, scale: scale as u8 };
            for (value, number) in values.iter().zip(&mut *numbers) {
                *number = code.narrowed(*value)?;
            }
            Some(code)
        })
    }

    /// None if the value has no number in this code.
    #[inline]
    pub(crate) fn narrowed<N: Number>(self, value: f64) -> Option<N> {
        if is_stale(value) {
            return Some(N::STALE);
        }
        let whole = match self.scale {
            0 => {
                // Not beyond what an i64 has; the comparison below sees to that. A negative zero is no whole number.
                let whole = value as i64;
                ((whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() < WHOLE_MAX).then_some(whole)?
            }
            scale => scaled(value, u32::from(scale))?,
        };
        N::try_from(whole - self.base as i64).ok().filter(|number| *number != N::STALE)
    }

    #[inline]
    pub(crate) fn value<N: Number>(self, number: N) -> f64 {
        match number == N::STALE {
            true => stale_nan(),
            false => (self.base + number.into()) / POWERS_OF_TEN[usize::from(self.scale)],
        }
    }

    fn append<N: Number>(self, numbers: &[N], values: &mut Vec<f64>) {
        let stale = stale_nan();
        let value = |number: N, plain: f64| if number == N::STALE { stale } else { plain };
        match self.scale {
            0 => values.extend(numbers.iter().map(|number| value(*number, self.base + (*number).into()))),
            scale => {
                let divisor = POWERS_OF_TEN[usize::from(scale)];
                values.extend(numbers.iter().map(|number| value(*number, (self.base + (*number).into()) / divisor)));
            }
        }
    }
}

/// Beyond this a float cannot hold every whole number.
const WHOLE_MAX: u64 = 1 << 53;

#[inline]
fn is_stale(value: f64) -> bool {
    value.to_bits() == stale_nan().to_bits()
}

/// Plain values of a series, lent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plain<'a> {
    Wide(&'a [f64]),
    Narrow(&'a [i32], Code),
    Short(&'a [i16], Code),
}

impl Plain<'_> {
    pub(crate) const NONE: Plain<'static> = Plain::Wide(&[]);

    pub(crate) fn len(self) -> usize {
        match self {
            Plain::Wide(values) => values.len(),
            Plain::Narrow(numbers, _) => numbers.len(),
            Plain::Short(numbers, _) => numbers.len(),
        }
    }

    /// The value at a place that is there.
    pub(crate) fn at(self, index: usize) -> f64 {
        match self {
            Plain::Wide(values) => values[index],
            Plain::Narrow(numbers, code) => code.value(numbers[index]),
            Plain::Short(numbers, code) => code.value(numbers[index]),
        }
    }

    pub(crate) fn last(self) -> Option<f64> {
        self.len().checked_sub(1).map(|last| self.at(last))
    }

    pub(crate) fn first(self, count: usize) -> Self {
        match self {
            Plain::Wide(values) => Plain::Wide(&values[..count]),
            Plain::Narrow(numbers, code) => Plain::Narrow(&numbers[..count], code),
            Plain::Short(numbers, code) => Plain::Short(&numbers[..count], code),
        }
    }

    pub(crate) fn append_to(self, values: &mut Vec<f64>) {
        match self {
            Plain::Wide(plain) => values.extend_from_slice(plain),
            Plain::Narrow(numbers, code) => code.append(numbers, values),
            Plain::Short(numbers, code) => code.append(numbers, values),
        }
    }

    pub(crate) fn to_vec(self) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.len());
        self.append_to(&mut values);
        values
    }
}

/// Places of a fixed number of values each.
pub(crate) struct Pages<T> {
    place_len: usize,
    pages: Vec<Box<[T]>>,
    taken: u32,
    free: Vec<u32>,
}

impl<T: Copy + Default> Pages<T> {
    pub(crate) fn new(place_len: usize) -> Self {
        Pages { place_len, pages: Vec::new(), taken: 0, free: Vec::new() }
    }

    pub(crate) fn place_len(&self) -> usize {
        self.place_len
    }

    /// Room for more values at the end of every place.
    pub(crate) fn widen(&mut self, place_len: usize) {
        for page in &mut self.pages {
            let mut wider = vec![T::default(); PAGE_PLACES * place_len];
            let places = wider.chunks_exact_mut(place_len).zip(page.chunks_exact(self.place_len));
            places.for_each(|(wide, place)| wide[..place.len()].copy_from_slice(place));
            *page = wider.into();
        }
        self.place_len = place_len;
    }

    pub(crate) fn take(&mut self) -> u32 {
        if let Some(free) = self.free.pop() {
            return free;
        }
        if self.taken as usize == self.pages.len() * PAGE_PLACES {
            self.pages.push(vec![T::default(); PAGE_PLACES * self.place_len].into());
        }
        self.taken += 1;
        self.taken - 1
    }

    pub(crate) fn give_back(&mut self, place: u32) {
        self.free.push(place);
    }

    pub(crate) fn at(&self, place: u32) -> &[T] {
        let (page, start) = self.position(place);
        &self.pages[page][start..start + self.place_len]
    }

    pub(crate) fn at_mut(&mut self, place: u32) -> &mut [T] {
        let (page, start) = self.position(place);
        &mut self.pages[page][start..start + self.place_len]
    }

    /// Drops the first values of every place.
    pub(crate) fn shift(&mut self, count: usize) {
        for page in &mut self.pages {
            page.chunks_exact_mut(self.place_len).for_each(|values| values.copy_within(count.., 0));
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_PLACES * self.place_len * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }

    fn position(&self, place: u32) -> (usize, usize) {
        (place as usize / PAGE_PLACES, place as usize % PAGE_PLACES * self.place_len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => (0i64..5_000_000_000).prop_map(|v| v as f64),
            4 => (-1_000_000i64..1_000_000).prop_map(|v| v as f64 / 1000.0),
            1 => Just(stale_nan()),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => Just(-0.0),
        ]
    }

    proptest! {
        #[test]
        fn what_is_narrow_comes_back_bit_for_bit(values in prop::collection::vec(value(), 1..40)) {
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let (mut numbers, mut short) = (vec![0i32; values.len()], vec![0i16; values.len()]);
            let narrow = Code::of(&values, &mut numbers).map(|code| Plain::Narrow(&numbers, code));
            let shorter = Code::of(&values, &mut short).map(|code| Plain::Short(&short, code));
            prop_assert!(shorter.is_none() || narrow.is_some());
            for plain in [narrow, shorter].into_iter().flatten() {
                prop_assert!(Code::is_likely(&values));
                prop_assert_eq!(bits(&plain.to_vec()), bits(&values));
                let one_by_one: Vec<f64> = (0..values.len()).map(|index| plain.at(index)).collect();
                prop_assert_eq!(bits(&one_by_one), bits(&values));
            }
        }
    }

    #[test]
    fn counts_and_ratios_are_narrow_and_other_floats_are_not() {
        let code = |values: &[f64]| Code::of(values, &mut vec![0i32; values.len()]);
        let short = |values: &[f64]| Code::of(values, &mut vec![0i16; values.len()]);
        assert!(code(&[1e15, 1e15 + 5.0, stale_nan(), 1e15 + 2e9]).is_some());
        assert_eq!(code(&[0.25, 3.0]), Some(Code { base: 300.0, scale: 2 }));
        assert!(code(&[stale_nan()]).is_some());
        for wide in [[0.0, 3e9], [0.1, 1.0 / 3.0], [1.0, -0.0], [1.0, f64::INFINITY], [1.0, f64::NAN]] {
            assert_eq!(code(&wide), None, "{wide:?}");
        }
        assert!(short(&[1e9, 1e9 + 32_767.0, stale_nan()]).is_some());
        assert_eq!(short(&[1e9, 1e9 + 32_768.0]), None);
    }
}
