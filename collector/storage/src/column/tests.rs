use proptest::prelude::*;
use telemetry::stale_nan;

use super::*;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-1_000_000i64..1_000_000).prop_map(|v| v as f64),
        4 => (-1_000_000i64..1_000_000).prop_map(|v| v as f64 / 1000.0),
        2 => any::<f64>(),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(stale_nan()),
        1 => Just(-0.0),
    ]
}

fn column() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        prop::collection::vec(value(), 0..80),
        prop::collection::vec(any::<f64>(), 1..80),
        (any::<f64>(), 1..40usize).prop_map(|(v, n)| vec![v; n]),
        (0..1i64 << 50, prop::collection::vec(0..200i64, 1..80)).prop_map(|(first, steps)| {
            steps
                .iter()
                .scan(first, |sum, step| {
                    *sum += step;
                    Some(*sum as f64)
                })
                .collect()
        }),
    ]
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #[test]
    fn values_come_back_bit_for_bit(values in column()) {
        let encoded = encode_values(&values);
        let decoded = decode_values(&encoded, values.len());
        prop_assert_eq!(decoded.as_deref().map(bits), Some(bits(&values)));
    }

    #[test]
    fn times_come_back(mut times in prop::collection::vec(any::<i64>(), 1..60), near in prop::collection::vec(14_000i64..16_000, 1..60)) {
        times.sort_unstable();
        let near: Vec<i64> = near.iter().scan(1_700_000_000_000, |t, step| { *t += step; Some(*t) }).collect();
        for times in [times, near] {
            prop_assert_eq!(decode_times(&encode_times(&times), times.len()), Some(times));
        }
    }

    #[test]
    fn nonsense_is_refused_or_decoded_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), count in 0..300usize) {
        let _ = decode_values(&bytes, count);
        let _ = decode_times(&bytes, count);
    }
}

#[test]
fn ordinary_columns_are_small() {
    let times: Vec<i64> = (0..256).map(|i| 1_700_000_000_000 + i * 15_000).collect();
    assert!(encode_times(&times).len() <= 16);
    let jittered: Vec<i64> = times.iter().enumerate().map(|(i, t)| t + (i as i64 * 7) % 17 - 8).collect();
    assert!(encode_times(&jittered).len() <= 256 * 6 / 8);
    let counter: Vec<f64> = (0..256).map(|i| (1_000_000 + i * 37 + (i * i) % 5) as f64).collect();
    assert!(encode_values(&counter).len() <= 256 * 4 / 8 + 16);
    let mut ended = counter.clone();
    ended[255] = stale_nan();
    assert!(encode_values(&ended).len() <= encode_values(&counter).len() + 16);
    let reset: Vec<f64> = (0..256).map(|i| if i < 100 { 1e9 + i as f64 } else { i as f64 }).collect();
    assert!(encode_values(&reset).len() <= 100);
    assert_eq!(encode_values(&[1.5; 256]).len(), 9);
    assert_eq!(encode_values(&[1.0; 256]).len(), 2);
    // Beside the bits of the differences: what it is, the first number, how wide they are.
    let idle: Vec<f64> = (0..16).map(|i| if i < 9 { 40.0 } else { 41.0 }).collect();
    assert_eq!(encode_values(&idle).len(), 3 + 2);
}
