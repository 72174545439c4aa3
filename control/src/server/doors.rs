//! The routes of the API and the document that describes them: each is said once, here.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter};
use utoipa::openapi::path::{ParameterBuilder, ParameterIn, PathItem, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, Object, Schema};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::{Api, Calls, Request, ask, health, problem, stream};
use crate::api::config::{Reload, Reloaded};
use crate::api::event::Event;
use crate::api::log::{LogChange, LogLevel, LogState, MobileSwitch};
use crate::api::{DropRow, Problem, Readiness, Status};
use crate::mn::status::MnStatus;

/// Routes, and what is said about them.
pub(super) struct Doors {
    router: Router<Api>,
    paths: Paths,
    components: ComponentsBuilder,
}

/// All of them.
pub(super) fn all() -> (Router<Api>, OpenApi) {
    let doors = Doors {
        router: Router::new(),
        paths: Paths::new(),
        components: ComponentsBuilder::new().schema_from::<Problem>(),
    };
    let doors = doors.tables_and_commands().events_and_health();
    #[cfg(feature = "dpdk")]
    let doors = doors.of_an_appliance();
    doors.described()
}

impl Doors {
    /// What `flowmob show` and the commands that change something ask of any process.
    fn tables_and_commands(self) -> Self {
        self.read::<Status>("/v1/status", "Name, roles, readiness", Request::Status)
            .list::<DropRow>("/v1/drops", "Reasons of drops and refusals", Request::Drops)
            .read::<MnStatus>("/v1/mn", "A mobile node's logical interface", Request::Mn)
            .ask(
                "/v1/config",
                "The configuration in force, in the words of its file, with nothing left to defaults",
                Object::new().into(),
                Request::Config,
            )
            .write::<Reload, Reloaded, _>(
                "/v1/reload",
                "Reads the configuration's file again and puts it into force, whole or not at all",
                Request::Reload,
            )
            .read::<LogState>("/v1/log", "What is logged", Request::Log)
            .write::<LogChange, LogState, _>(
                "/v1/log",
                "Logs more or less, also about one mobile, until the process ends or a reload says otherwise",
                Request::LogChange,
            )
            .knows::<LogLevel>()
            .knows::<MobileSwitch>()
    }

    /// What monitoring asks for, and whoever wants to hear what happens.
    fn events_and_health(self) -> Self {
        let after = ParameterBuilder::new()
            .name("after")
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(
                "Events after the one with this number; all that are kept if left out",
            ))
            .schema(Some(u64::schema()))
            .build();
        self.other(
            "/v1/events",
            "The last thousand events, oldest first",
            ("application/json", list_of::<Event>()),
            [after.clone()].into(),
            get(stream::events),
        )
        .other(
            "/v1/events/stream",
            "Those, and all that follow, as server-sent events; Last-Event-ID goes on after it",
            ("text/event-stream", one::<Event>()),
            [after].into(),
            get(stream::follow),
        )
        .other(
            "/livez",
            "200 if the control thread and all workers turn",
            ("text/plain", String::schema()),
            Vec::new(),
            get(health::alive),
        )
        .other(
            "/readyz",
            "200 if the configuration is applied and all ports are up, or a mobile node has an address and a router, or \
             else 503",
            ("application/json", one::<Readiness>()),
            Vec::new(),
            get(health::ready),
        )
        .other(
            "/metrics",
            "Everything that is counted",
            ("application/openmetrics-text", String::schema()),
            Vec::new(),
            get(health::metrics),
        )
        .knows::<Event>()
        .knows::<Readiness>()
    }
}

/// What an answer holds, and as what.
pub(super) type Holds = (&'static str, RefOr<Schema>);

impl Doors {
    /// A question without parameters, answered by one thing.
    pub(super) fn read<A: ToSchema>(
        self,
        path: &str,
        summary: &str,
        request: impl Into<Request>,
    ) -> Self {
        self.knows::<A>().ask(path, summary, one::<A>(), request)
    }

    /// A question without parameters, answered by a list.
    pub(super) fn list<A: ToSchema>(
        self,
        path: &str,
        summary: &str,
        request: impl Into<Request>,
    ) -> Self {
        self.knows::<A>()
            .ask(path, summary, list_of::<A>(), request)
    }

    pub(super) fn ask(
        self,
        path: &str,
        summary: &str,
        holds: RefOr<Schema>,
        request: impl Into<Request>,
    ) -> Self {
        let request = request.into();
        let handler =
            get(async move |State(calls): State<Calls>| ask(&calls, request.clone()).await);
        let holds = ("application/json", holds);
        self.other(path, summary, holds, Vec::new(), handler)
    }

    /// Something to be done, described by a JSON body.
    pub(super) fn write<
        Q: ToSchema + DeserializeOwned + Send + 'static,
        A: ToSchema,
        R: Into<Request> + 'static,
    >(
        self,
        path: &str,
        summary: &str,
        make: fn(Q) -> R,
    ) -> Self {
        let handler = post(
            async move |State(calls): State<Calls>, body: Result<Json<Q>, JsonRejection>| match body
            {
                Ok(Json(body)) => ask(&calls, make(body).into()).await,
                Err(rejection) => problem(&Problem::bad_request(rejection.body_text())),
            },
        );
        let content = ContentBuilder::new().schema(Some(one::<Q>())).build();
        let body = RequestBodyBuilder::new()
            .content("application/json", content)
            .required(Some(Required::True))
            .build();
        let operation = operation(summary, ("application/json", one::<A>()));
        let operation = operation.request_body(Some(body)).build();
        let doors = self.knows::<Q>().knows::<A>();
        doors.add(path, HttpMethod::Post, operation, handler)
    }

    /// Anything else that is asked for with GET.
    pub(super) fn other(
        self,
        path: &str,
        summary: &str,
        holds: Holds,
        parameters: Vec<Parameter>,
        handler: MethodRouter<Api>,
    ) -> Self {
        let operation = operation(summary, holds);
        let operation = parameters
            .into_iter()
            .fold(operation, OperationBuilder::parameter);
        self.add(path, HttpMethod::Get, operation.build(), handler)
    }

    fn add(
        mut self,
        path: &str,
        method: HttpMethod,
        operation: Operation,
        handler: MethodRouter<Api>,
    ) -> Self {
        let item = PathItem::new(method, operation);
        match self.paths.paths.get_mut(path) {
            Some(known) => known.merge_operations(item),
            None => {
                self.paths.paths.insert(path.to_owned(), item);
            }
        }
        self.router = self.router.route(path, handler);
        self
    }

    /// Describes a type and those that it is made of.
    pub(super) fn knows<T: ToSchema>(mut self) -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        self.components = self.components.schemas_from_iter(parts).schema_from::<T>();
        self
    }

    fn described(self) -> (Router<Api>, OpenApi) {
        let info = InfoBuilder::new()
            .title("flowmob management API")
            .version("1")
            .description(Some(
                "Version 1: fields and kinds of events may be added, none is renamed or removed. Served on the \
                 Unix socket of [management], and over TCP where that is configured.",
            ))
            .build();
        let document = OpenApiBuilder::new()
            .info(info)
            .paths(self.paths)
            .components(Some(self.components.build()))
            .build();
        (self.router, document)
    }
}

/// A reference to the description of a type.
fn one<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

fn list_of<T: ToSchema>() -> RefOr<Schema> {
    let list = ArrayBuilder::new().items(one::<T>()).build();
    RefOr::T(Schema::Array(list))
}

/// What a good answer and an error look like.
fn operation(summary: &str, (kind, schema): Holds) -> OperationBuilder {
    let good = ContentBuilder::new().schema(Some(schema)).build();
    let good = ResponseBuilder::new()
        .description("As asked")
        .content(kind, good);
    let error = ContentBuilder::new().schema(Some(one::<Problem>())).build();
    let error = ResponseBuilder::new()
        .description("Why not (RFC 9457)")
        .content("application/problem+json", error);
    OperationBuilder::new()
        .summary(Some(summary))
        .response("200", good.build())
        .response("default", error.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document in docs/ is the one that is served. `FLOWMOB_UPDATE=1` writes it.
    #[test]
    fn the_document_that_is_kept_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let (_, document) = all();
        let text = document.to_pretty_json().unwrap() + "\n";
        if std::env::var_os("FLOWMOB_UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(
            kept == text,
            "docs/openapi.json is old: FLOWMOB_UPDATE=1 cargo test -p flowmob --bin flowmob document"
        );
    }

    #[test]
    fn all_that_is_referred_to_is_described() {
        let (_, document) = all();
        let text = document.to_json().unwrap();
        let schemas = document.components.unwrap().schemas;
        let mut referred = 0;
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
            referred += 1;
        }
        assert!(referred > 40, "{referred}");
    }
}
