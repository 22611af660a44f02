//! The HTTP status and the code in the body for each kind of error (reference, section 7).

use http::StatusCode;

use crate::error::Kind;

/// The HTTP status of an error.
pub const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::InvalidArgument
        | Kind::PathTooLong
        | Kind::Reserved
        | Kind::InvalidSessionId
        | Kind::BadRange
        | Kind::DataLoss => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::FileNotFound
        | Kind::FolderNotFound
        | Kind::PathNotFound
        | Kind::OperationNotFound
        | Kind::SessionNotFound
        | Kind::TokenNotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists
        | Kind::WriteConflict
        | Kind::SessionConflict
        | Kind::Changed
        | Kind::Finished
        | Kind::Cancelled => StatusCode::CONFLICT,
        Kind::ChangesForgotten => StatusCode::GONE,
        Kind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Kind::TooLarge | Kind::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::UnsatisfiableRange => StatusCode::RANGE_NOT_SATISFIABLE,
        Kind::Corrupt | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Busy | Kind::VerdictUnknown | Kind::ServerLost => StatusCode::SERVICE_UNAVAILABLE,
        Kind::TooManyFailures => StatusCode::TOO_MANY_REQUESTS,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
    }
}

/// `Error.Code` of the REST body (reference, section 7).
pub const fn code(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidArgument | Kind::UnsatisfiableRange | Kind::UnsupportedEncoding => {
            "E_INVALIDARG"
        }
        Kind::DataLoss | Kind::ServerLost => "FABRIC_E_OPERATION_NOT_COMPLETE",
        Kind::PathTooLong => "FABRIC_E_PATH_TOO_LONG",
        Kind::Reserved => "FABRIC_E_IMAGEBUILDER_RESERVED_DIRECTORY_ERROR",
        Kind::InvalidSessionId => "FABRIC_E_INVALID_UPLOAD_SESSION_ID",
        Kind::BadRange => "FABRIC_E_UPLOAD_SESSION_RANGE_NOT_SATISFIABLE",
        Kind::Unauthenticated => "FABRIC_E_SERVER_AUTHENTICATION_FAILED",
        Kind::Forbidden => "E_ACCESSDENIED",
        Kind::FileNotFound => "FABRIC_E_FILE_NOT_FOUND",
        Kind::FolderNotFound => "FABRIC_E_DIRECTORY_NOT_FOUND",
        Kind::PathNotFound => "FABRIC_E_DOES_NOT_EXIST",
        Kind::OperationNotFound => "FABRIC_E_KEY_NOT_FOUND",
        Kind::TokenNotFound => "FABRIC_E_NAME_DOES_NOT_EXIST",
        Kind::SessionNotFound => "NotFound",
        Kind::AlreadyExists => "FABRIC_E_NAME_ALREADY_EXISTS",
        Kind::WriteConflict => "FABRIC_E_WRITE_CONFLICT",
        Kind::SessionConflict => "FABRIC_E_UPLOAD_SESSION_ID_CONFLICT",
        Kind::Changed | Kind::PreconditionFailed | Kind::ChangesForgotten => {
            "FABRIC_E_SEQUENCE_NUMBER_CHECK_FAILED"
        }
        Kind::Finished => "FABRIC_E_INVALID_OPERATION",
        Kind::TooLarge => "FABRIC_E_VALUE_TOO_LARGE",
        Kind::MessageTooLarge => "FABRIC_E_MESSAGE_TOO_LARGE",
        Kind::Busy | Kind::TooManyFailures => "FABRIC_E_SERVICE_TOO_BUSY",
        Kind::VerdictUnknown => "FABRIC_E_COMMUNICATION_ERROR",
        Kind::Timeout => "FABRIC_E_TIMEOUT",
        Kind::Cancelled => "E_ABORT",
        Kind::NoSpace => "FABRIC_E_IMAGESTORE_IOERROR",
        Kind::Corrupt => "FABRIC_E_CORRUPTED_IMAGE_STORE_OBJECT_FOUND",
        Kind::Unimplemented => "E_NOTIMPL",
        Kind::Internal => "E_FAIL",
    }
}
