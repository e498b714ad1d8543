//! Products for a development database that has none.

use sqlx::PgPool;
use uuid::Uuid;

use crate::user::model::DEFAULT_ORG;

/// Stock of each: more than a day of traffic takes.
pub const ON_HAND: i32 = 1_000_000;
pub const CURRENCY: &str = "EUR";

/// SKU, name, price in cents. Prices are such that a few totals end in 13 or 66, which the simulated
/// payment provider declines.
pub const PRODUCTS: [(&str, &str, i64); 20] = [
    ("MUG-01", "Enamel mug", 1290),
    ("MUG-02", "Stoneware mug", 1613),
    ("KET-01", "Pour-over kettle", 6400),
    ("FIL-01", "Paper filters, 100 pieces", 549),
    ("GRI-01", "Hand grinder", 8900),
    ("SCA-01", "Coffee scale", 4500),
    ("BEA-01", "House blend, 1 kg", 2190),
    ("BEA-02", "Single origin, 250 g", 1150),
    ("CAR-01", "Glass carafe", 2450),
    ("DRI-01", "Ceramic dripper", 1990),
    ("TAM-01", "Steel tamper", 3266),
    ("CLO-01", "Bar cloths, 4 pieces", 1075),
    ("SPO-01", "Cupping spoon", 940),
    ("BOT-01", "Cold brew bottle", 2790),
    ("TRA-01", "Travel press", 3490),
    ("THE-01", "Thermometer", 1525),
    ("BRU-01", "Grinder brush", 799),
    ("JAR-01", "Airtight jar", 1899),
    ("CUP-01", "Espresso cup", 1033),
    ("TRY-01", "Serving tray", 3950),
];

/// Adds the products to the default organisation if it has none; how many it added.
///
/// # Errors
/// The database refuses.
pub async fn products(pool: &PgPool) -> sqlx::Result<usize> {
    let mut tx = pool.begin().await?;
    let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM products.products WHERE org_id = $1)")
        .bind(DEFAULT_ORG)
        .fetch_one(&mut *tx)
        .await?;
    if any {
        return Ok(0);
    }
    for (sku, name, price_minor) in PRODUCTS {
        let id = Uuid::now_v7();
        sqlx::query(
            "INSERT INTO products.products (id, org_id, sku, name, price_minor, currency) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(DEFAULT_ORG)
        .bind(sku)
        .bind(name)
        .bind(price_minor)
        .bind(CURRENCY)
        .execute(&mut *tx)
        .await?;
        sqlx::query("INSERT INTO products.inventory (id, product_id, on_hand) VALUES ($1, $2, $3)")
            .bind(Uuid::now_v7())
            .bind(id)
            .bind(ON_HAND)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(PRODUCTS.len())
}
