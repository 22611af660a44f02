//! Conversion of parameters and values to and from the format of PostgreSQL.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::{
    error::Source,
    namespace::sql::{Param, Row, Value},
};

/// The type of a parameter.
pub(super) fn param_type(param: &Param<'_>) -> Type {
    match param {
        // The database infers the type from the context.
        Param::Null => Type::UNKNOWN,
        Param::Int(_) => Type::INT8,
        Param::Text(_) => Type::TEXT,
        Param::Bytes(_) => Type::BYTEA,
    }
}

/// The parameters of a statement.
pub(super) fn as_params<'a>(params: &'a [Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param as _).collect()
}

/// A row of a result.
pub(super) fn row(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    (0..row.len()).map(|column| row.try_get(column)).collect::<Result<_, _>>().map(Row)
}

impl ToSql for Param<'_> {
    fn to_sql(&self, wanted: &Type, out: &mut BytesMut) -> Result<IsNull, Source> {
        let given = param_type(self);
        if given != Type::UNKNOWN && given != *wanted {
            return Err(format!("the parameter is {given}, the statement wants {wanted}").into());
        }
        match *self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Int(value) => out.put_i64(value),
            Self::Text(value) => out.put_slice(value.as_bytes()),
            Self::Bytes(value) => out.put_slice(value),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl FromSql<'_> for Value {
    fn from_sql(found: &Type, raw: &[u8]) -> Result<Self, Source> {
        Ok(match *found {
            Type::INT8 => Self::Int(FromSql::from_sql(found, raw)?),
            Type::INT4 => Self::Int(<i32 as FromSql<'_>>::from_sql(found, raw)?.into()),
            Type::INT2 => Self::Int(<i16 as FromSql<'_>>::from_sql(found, raw)?.into()),
            Type::TEXT => Self::Text(FromSql::from_sql(found, raw)?),
            _ => Self::Bytes(FromSql::from_sql(found, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Source> {
        Ok(Self::Null)
    }

    fn accepts(found: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::INT2, Type::TEXT, Type::BYTEA].contains(found)
    }
}
