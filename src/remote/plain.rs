//! A client that takes and gives plain JSON, for the demo and for commands: an error is a sentence.

use anyhow::{Context, bail};
use serde_json::Value;

use crate::domain::json;

/// A server and a token there.
pub struct Client {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    /// For a server's address.
    pub fn new(base: &str, token: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        Self { client, base: base.to_owned(), token: token.to_owned() }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let response = request.bearer_auth(&self.token).send().await.context("the server cannot be reached")?;
        let status = response.status();
        let body: Value = json::outside(&response.bytes().await.unwrap_or_default()).unwrap_or_default();
        if !status.is_success() {
            bail!("{}: {}", status.as_u16(), body["detail"].as_str().unwrap_or("no further word"));
        }
        Ok(body)
    }

    /// # Errors
    /// The server's sentence.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.client.get(format!("{}{path}", self.base))).await
    }

    /// # Errors
    /// The server's sentence.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(self.client.post(format!("{}{path}", self.base)).json(body)).await
    }

    /// # Errors
    /// The server's sentence.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(self.client.put(format!("{}{path}", self.base)).json(body)).await
    }

    /// # Errors
    /// The server's sentence.
    pub async fn put_bytes(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        self.send(self.client.put(format!("{}{path}", self.base)).body(body)).await
    }

    /// # Errors
    /// The server's sentence.
    pub async fn post_lines(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}{path}", self.base)).header("content-type", "application/x-ndjson");
        self.send(request.body(body)).await
    }

    /// # Errors
    /// The server's sentence.
    pub async fn post_package(&self, body: Vec<u8>) -> anyhow::Result<Value> {
        let request =
            self.client.post(format!("{}/api/v1/imports", self.base)).header("content-type", "application/zip");
        self.send(request.body(body)).await
    }
}
