//! Paths and queries of requests; what cannot be read of them is a problem like any other.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The parameters in a path.
#[derive(Debug)]
pub(super) struct PathOf<T>(pub T);

/// The parameters behind the question mark.
#[derive(Debug)]
pub(super) struct QueryOf<T>(pub T);

impl<S, T> FromRequestParts<S> for PathOf<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathOf<T>, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(found)) => Ok(PathOf(found)),
            Err(refused) => Err(Problem::wrong(refused.body_text())),
        }
    }
}

impl<S, T> FromRequestParts<S> for QueryOf<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<QueryOf<T>, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(found)) => Ok(QueryOf(found)),
            Err(refused) => Err(Problem::wrong(refused.body_text())),
        }
    }
}
