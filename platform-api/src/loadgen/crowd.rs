//! The people who make the traffic, and what they do next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use service::config::Secret;
use uuid::Uuid;

use super::client::{Answer, Call, Service, Targets};
use super::summary::Summary;
use crate::dev::seed;

/// Customers who exist before the traffic begins; more register on the way.
const FIRST_CUSTOMERS: usize = 8;
const CUSTOMERS_MAX: usize = 200;
/// Orders remembered for paying and shipping; older ones are left to expire, as people do.
const ORDERS_REMEMBERED: usize = 500;
const PRODUCTS_PAGE: usize = 100;
const PASSWORD: &str = "correct horse battery";

/// One step of somebody's visit, and how often it is taken, of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    ListProducts,
    ShowProduct,
    ShowStock,
    CreateOrder,
    PayOrder,
    ShipOrder,
    ListOrders,
    ShowOrder,
    ShowMe,
    ListNotifications,
    ReadReport,
    Login,
    Register,
}

const MIX: [(Action, u32); 13] = [
    (Action::ListProducts, 170),
    (Action::ShowProduct, 220),
    (Action::ShowStock, 60),
    (Action::CreateOrder, 130),
    (Action::PayOrder, 120),
    (Action::ShipOrder, 90),
    (Action::ListOrders, 50),
    (Action::ShowOrder, 50),
    (Action::ShowMe, 25),
    (Action::ListNotifications, 45),
    (Action::ReadReport, 20),
    (Action::Login, 15),
    (Action::Register, 5),
];

impl Action {
    pub fn pick(rng: &mut impl Rng) -> Action {
        MIX.choose_weighted(rng, |(_, weight)| *weight).expect("the weights are constants above zero").0
    }
}

#[derive(Clone)]
struct Person {
    email: String,
    token: String,
    /// Log in again before the services refuse the token.
    good_until: Instant,
}

/// An order and whose it is.
#[derive(Clone)]
struct Placed {
    id: String,
    customer: usize,
}

#[derive(Default)]
struct World {
    customers: Vec<Person>,
    admin: Option<Person>,
    products: Vec<String>,
    unpaid: VecDeque<Placed>,
    unshipped: VecDeque<Placed>,
    recent: VecDeque<Placed>,
}

/// Everybody, and what they know.
pub struct Crowd {
    targets: Targets,
    summary: Arc<Summary>,
    admin: Option<(String, Secret)>,
    world: Mutex<World>,
}

impl Crowd {
    pub fn new(targets: Targets, summary: Arc<Summary>, admin: Option<(String, Secret)>) -> Self {
        Crowd { targets, summary, admin, world: Mutex::default() }
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().expect("no one panics holding it")
    }

    async fn call(&self, call: Call<'_>) -> Option<Answer> {
        self.targets.call(&self.summary, call).await
    }

    /// Logs the administrator in, registers the first customers, finds the products or makes them.
    ///
    /// # Errors
    /// The services do not answer within `patience`, or there is nothing to buy.
    pub async fn prepare(&self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let problem = match self.try_prepare().await {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            };
            if Instant::now() >= deadline {
                return Err(problem).context(format!("gave up after {patience:?}"));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn try_prepare(&self) -> anyhow::Result<()> {
        if let Some((email, password)) = &self.admin
            && self.world().admin.is_none()
        {
            let admin = self.log_in(email, password.expose()).await;
            self.world().admin = Some(admin.with_context(|| format!("the administrator {email} could not log in"))?);
        }
        while self.world().customers.len() < FIRST_CUSTOMERS {
            self.register().await.context("a customer could not register")?;
        }
        let (token, is_admin) = {
            let world = self.world();
            (world.admin.as_ref().or(world.customers.first()).map(|p| p.token.clone()), world.admin.is_some())
        };
        let token = token.context("nobody is logged in")?;
        let mut products = self.find_products(&token).await?;
        if products.is_empty() {
            anyhow::ensure!(is_admin, "there are no products, and no administrator to make them");
            self.make_products(&token).await?;
            products = self.find_products(&token).await?;
        }
        self.world().products = products;
        Ok(())
    }

    async fn find_products(&self, token: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("/api/v1/products?limit={PRODUCTS_PAGE}");
        let answer = self.call(Call::get(Service::Product, path, token)).await;
        let answer = answer.filter(Answer::is_success).context("the products could not be listed")?;
        let items = answer.body["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)).collect())
    }

    async fn make_products(&self, token: &str) -> anyhow::Result<()> {
        for (sku, name, price_minor) in seed::PRODUCTS {
            let body = json!({
                "sku": sku, "name": name, "price_minor": price_minor, "currency": seed::CURRENCY, "on_hand": seed::ON_HAND,
            });
            let answer = self.call(Call::post(Service::Product, "/api/v1/products", Some(token), Some(body))).await;
            let made = answer.is_some_and(|answer| answer.is_success() || answer.status == 409);
            anyhow::ensure!(made, "the product {sku} could not be made");
        }
        Ok(())
    }

    async fn log_in(&self, email: &str, password: &str) -> Option<Person> {
        let body = json!({ "email": email, "password": password });
        let answer = self.call(Call::post(Service::User, "/api/v1/auth/login", None, Some(body))).await?;
        let lifetime = answer.body["expires_in"].as_u64().unwrap_or_default();
        let good_until = Instant::now() + Duration::from_secs(lifetime).mul_f64(0.8);
        Some(Person { email: email.to_owned(), token: answer.text("access_token")?, good_until })
    }

    /// None when the account could not be made or logged into.
    async fn register(&self) -> Option<()> {
        let email = format!("customer-{}@example.com", Uuid::now_v7().simple());
        let body = json!({ "email": email, "password": PASSWORD, "display_name": "A customer" });
        let answer = self.call(Call::post(Service::User, "/api/v1/auth/register", None, Some(body))).await?;
        if !answer.is_success() {
            return None;
        }
        self.summary.happened("registered");
        let person = self.log_in(&email, PASSWORD).await?;
        let mut world = self.world();
        if world.customers.len() < CUSTOMERS_MAX {
            world.customers.push(person);
        }
        Some(())
    }

    /// Takes one step; `choice` decides who takes it and with what.
    pub async fn act(&self, action: Action, choice: u64) {
        let mut rng = StdRng::seed_from_u64(choice);
        // An answer that does not come, or is a refusal, is counted by the call; the visit goes on elsewhere.
        let done = match action {
            Action::Register => self.register().await,
            Action::ReadReport => self.read_report(&mut rng).await,
            Action::PayOrder => self.pay().await,
            Action::ShipOrder => self.ship().await,
            Action::CreateOrder => self.order(&mut rng).await,
            _ => self.look(action, &mut rng).await,
        };
        if done.is_none() {
            // There was nothing to pay or to ship: somebody browses instead, the rate is kept.
            self.look(Action::ListProducts, &mut rng).await;
        }
    }

    async fn token(&self, customer: usize) -> Option<String> {
        let person = self.world().customers.get(customer)?.clone();
        if person.good_until > Instant::now() {
            return Some(person.token);
        }
        let person = self.log_in(&person.email, PASSWORD).await?;
        let token = person.token.clone();
        self.world().customers[customer] = person;
        Some(token)
    }

    async fn admin_token(&self) -> Option<String> {
        let person = self.world().admin.clone()?;
        if person.good_until > Instant::now() {
            return Some(person.token);
        }
        let (email, password) = self.admin.as_ref()?;
        let person = self.log_in(email, password.expose()).await?;
        let token = person.token.clone();
        self.world().admin = Some(person);
        Some(token)
    }

    /// What customers look at without changing anything.
    async fn look(&self, action: Action, rng: &mut StdRng) -> Option<()> {
        let (customer, product, placed) = {
            let world = self.world();
            let customer = rng.random_range(0..world.customers.len().max(1));
            let placed = world.recent.get(rng.random_range(0..world.recent.len().max(1))).cloned();
            (customer, world.products.choose(rng).cloned()?, placed)
        };
        if action == Action::Login {
            let email = self.world().customers.get(customer)?.email.clone();
            let person = self.log_in(&email, PASSWORD).await?;
            self.world().customers[customer] = person;
            return Some(());
        }
        let (service, path, customer) = match action {
            Action::ShowProduct => (Service::Product, format!("/api/v1/products/{product}"), customer),
            Action::ShowStock => (Service::Product, format!("/api/v1/products/{product}/inventory"), customer),
            Action::ListOrders => (Service::Order, "/api/v1/orders?limit=10".to_owned(), customer),
            Action::ShowOrder => {
                let placed = placed?;
                (Service::Order, format!("/api/v1/orders/{}", placed.id), placed.customer)
            }
            Action::ShowMe => (Service::User, "/api/v1/users/me".to_owned(), customer),
            Action::ListNotifications => (Service::Notification, "/api/v1/notifications?limit=10".to_owned(), customer),
            _ => (Service::Product, "/api/v1/products?limit=20".to_owned(), customer),
        };
        let token = self.token(customer).await?;
        self.call(Call::get(service, path, &token)).await.map(drop)
    }

    async fn order(&self, rng: &mut StdRng) -> Option<()> {
        let (customer, lines) = {
            let world = self.world();
            let count = rng.random_range(1..=3);
            let picked: Vec<_> = world.products.choose_multiple(rng, count).cloned().collect();
            let lines: Vec<_> = picked
                .iter()
                .map(|product| json!({ "product_id": product, "quantity": rng.random_range(1..=3) }))
                .collect();
            (rng.random_range(0..world.customers.len().max(1)), lines)
        };
        let token = self.token(customer).await?;
        let mut call = Call::post(Service::Order, "/api/v1/orders", Some(&token), Some(json!({ "lines": lines })));
        call.idempotency_key = Some(Uuid::now_v7().to_string());
        let answer = self.call(call).await?;
        if !answer.is_success() {
            return Some(());
        }
        self.summary.happened("orders");
        let placed = Placed { id: answer.text("id")?, customer };
        let mut world = self.world();
        remember(&mut world.unpaid, placed.clone());
        remember(&mut world.recent, placed);
        Some(())
    }

    async fn pay(&self) -> Option<()> {
        let placed = self.world().unpaid.pop_front()?;
        let token = self.token(placed.customer).await?;
        let path = format!("/api/v1/orders/{}/pay", placed.id);
        let answer = self.call(Call::post(Service::Order, path, Some(&token), None)).await;
        match answer.map(|answer| answer.status) {
            Some(200) => {
                self.summary.happened("paid");
                remember(&mut self.world().unshipped, placed);
            }
            Some(402) => self.summary.happened("payments_declined"),
            // Not known to have failed for good: somebody tries again later.
            Some(500..) | None => remember(&mut self.world().unpaid, placed),
            Some(_) => {}
        }
        Some(())
    }

    async fn ship(&self) -> Option<()> {
        let token = self.admin_token().await?;
        let placed = self.world().unshipped.pop_front()?;
        let path = format!("/api/v1/orders/{}/ship", placed.id);
        let answer = self.call(Call::post(Service::Order, path, Some(&token), None)).await;
        match answer.map(|answer| answer.status) {
            Some(200) => self.summary.happened("shipped"),
            Some(500..) | None => remember(&mut self.world().unshipped, placed),
            Some(_) => {}
        }
        Some(())
    }

    async fn read_report(&self, rng: &mut StdRng) -> Option<()> {
        let token = self.admin_token().await?;
        let granularity = ["hour", "day"].choose(rng)?;
        let path = format!("/api/v1/reports/sales?granularity={granularity}");
        self.call(Call::get(Service::Analytics, path, &token)).await.map(drop)
    }
}

fn remember(orders: &mut VecDeque<Placed>, placed: Placed) {
    orders.push_back(placed);
    if orders.len() > ORDERS_REMEMBERED {
        orders.pop_front();
    }
}
