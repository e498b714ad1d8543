//! The life of an order, as a pure function: what may follow on what, and what it means.
//!
//! No clock, no database: the caller has found out what happened and asks what that makes of the order.

use std::fmt;

/// How often a payment may be refused before the order is given up.
pub const PAYMENTS_MAX: u32 = 3;

/// Where an order stands. `Pending` lives only inside the request that creates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Reserved,
    /// Still holds its stock; the payment may be tried again.
    PaymentFailed {
        failures: u32,
    },
    Paid,
    Shipped,
    Cancelled,
    Expired,
}

/// What happened, or is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The stock is held for this order.
    Reserve,
    /// The money is captured and the stock has left the shelf.
    Pay,
    /// The provider said no.
    DeclinePayment,
    Ship,
    Cancel,
    /// The hold on the stock is over.
    Expire,
}

/// What has to be done about the stock, and what is told to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    TellCreated,
    TellPaid,
    TellPaymentFailed,
    TellShipped,
    TellExpired,
    ReleaseStock,
}

/// The command does not fit the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {state} does not take `{command}`")]
pub struct Illegal {
    pub state: State,
    pub command: Command,
}

/// # Errors
/// [`Illegal`] when the command does not fit; the order stays what it was.
pub fn apply(state: State, command: Command) -> Result<(State, &'static [Effect]), Illegal> {
    use Command::*;
    use State::*;
    Ok(match (state, command) {
        (Pending, Reserve) => (Reserved, &[Effect::TellCreated]),
        (Reserved | PaymentFailed { .. }, Pay) => (Paid, &[Effect::TellPaid]),
        (Reserved, DeclinePayment) => (PaymentFailed { failures: 1 }, &[Effect::TellPaymentFailed]),
        (PaymentFailed { failures }, DeclinePayment) if failures + 1 < PAYMENTS_MAX => {
            (PaymentFailed { failures: failures + 1 }, &[Effect::TellPaymentFailed])
        }
        (PaymentFailed { .. }, DeclinePayment) => (Cancelled, &[Effect::TellPaymentFailed, Effect::ReleaseStock]),
        (Reserved | PaymentFailed { .. }, Cancel) => (Cancelled, &[Effect::ReleaseStock]),
        (Reserved | PaymentFailed { .. }, Expire) => (Expired, &[Effect::TellExpired, Effect::ReleaseStock]),
        (Paid, Ship) => (Shipped, &[Effect::TellShipped]),
        (state, command) => return Err(Illegal { state, command }),
    })
}

/// What a client may ask of an order in this state.
pub fn allowed(state: State) -> Vec<&'static str> {
    [Command::Pay, Command::Ship, Command::Cancel]
        .into_iter()
        .filter(|command| apply(state, *command).is_ok())
        .map(Command::as_str)
        .collect()
}

impl State {
    /// The column's text; the count of failures has a column of its own.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Reserved => "reserved",
            State::PaymentFailed { .. } => "payment_failed",
            State::Paid => "paid",
            State::Shipped => "shipped",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
        }
    }

    pub fn failures(self) -> u32 {
        match self {
            State::PaymentFailed { failures } => failures,
            _ => 0,
        }
    }

    /// None for a text that no state has.
    pub fn parse(text: &str, failures: u32) -> Option<Self> {
        Some(match text {
            "pending" => State::Pending,
            "reserved" => State::Reserved,
            "payment_failed" => State::PaymentFailed { failures },
            "paid" => State::Paid,
            "shipped" => State::Shipped,
            "cancelled" => State::Cancelled,
            "expired" => State::Expired,
            _ => return None,
        })
    }
}

impl Command {
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Reserve => "reserve",
            Command::Pay => "pay",
            Command::DeclinePayment => "decline_payment",
            Command::Ship => "ship",
            Command::Cancel => "cancel",
            Command::Expire => "expire",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMANDS: [Command; 6] =
        [Command::Reserve, Command::Pay, Command::DeclinePayment, Command::Ship, Command::Cancel, Command::Expire];

    #[test]
    fn the_usual_life_of_an_order() {
        let mut state = State::Pending;
        for (command, expected) in
            [(Command::Reserve, State::Reserved), (Command::Pay, State::Paid), (Command::Ship, State::Shipped)]
        {
            state = apply(state, command).expect("legal").0;
            assert_eq!(state, expected);
        }
        assert_eq!(allowed(State::Reserved), ["pay", "cancel"]);
        assert_eq!(allowed(State::Paid), ["ship"]);
        assert!(allowed(State::Shipped).is_empty());
    }

    #[test]
    fn the_third_refused_payment_gives_the_order_up_and_the_stock_back() {
        let mut state = State::Reserved;
        let mut effects: &[Effect] = &[];
        for _ in 0..PAYMENTS_MAX {
            (state, effects) = apply(state, Command::DeclinePayment).expect("legal");
        }
        assert_eq!(state, State::Cancelled);
        assert!(effects.contains(&Effect::ReleaseStock));
        assert!(apply(state, Command::Pay).is_err());
    }

    #[test]
    fn an_illegal_command_says_so() {
        let illegal = apply(State::Shipped, Command::Cancel).unwrap_err();
        assert_eq!(illegal.to_string(), "an order that is shipped does not take `cancel`");
    }

    proptest! {
        #[test]
        fn no_sequence_of_commands_is_paid_without_stock_or_paid_twice(picks in prop::collection::vec(0..COMMANDS.len(), 0..40)) {
            let mut state = State::Pending;
            // Stock held for the order, and stock sold: never both, never more than once.
            let (mut held, mut sold, mut paid) = (false, false, 0);
            for pick in picks {
                let command = COMMANDS[pick];
                let before = state;
                let Ok((next, effects)) = apply(state, command) else { continue };
                match command {
                    Command::Reserve => held = true,
                    Command::Pay => {
                        prop_assert!(held, "{before} was paid without stock");
                        (held, sold, paid) = (false, true, paid + 1);
                    }
                    _ => {}
                }
                if effects.contains(&Effect::ReleaseStock) {
                    prop_assert!(held, "{before} gave back stock that it did not hold");
                    held = false;
                }
                prop_assert!(State::parse(next.as_str(), next.failures()) == Some(next));
                state = next;
            }
            prop_assert!(paid <= 1);
            prop_assert_eq!(sold, matches!(state, State::Paid | State::Shipped));
            prop_assert_eq!(held, matches!(state, State::Reserved | State::PaymentFailed { .. }));
        }
    }
}
