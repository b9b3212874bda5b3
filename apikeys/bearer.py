"""The key in a request's Authorization header."""

from apikeys.problems import INVALID_TOKEN, Problem

KEY_LENGTH_LIMIT = 200


def bearer_token(header: str) -> str | None:
    """Return the token of an `Authorization: Bearer …` header (RFC 6750, 2.1), or None where there is no header.

    Raises Problem where there is one that carries no Bearer token. What it says of a token is its form alone: no
    store is asked, and the token itself is compared with nothing here. The gate finds a key by the SHA-256 of
    the whole token, so how long that takes tells nothing of how much of a guess was right.
    """
    if not header:
        return None
    scheme, _, token = header.partition(" ")
    token = token.strip(" ")
    is_bearer = scheme.lower() == "bearer"
    if not is_bearer or not token or len(token) > KEY_LENGTH_LIMIT:
        raise Problem(
            status=401,
            code="invalid_key",
            title="Invalid API key",
            detail="Send your API key as `Authorization: Bearer <key>`.",
            # RFC 6750, 3.1: no error code for who tried another scheme.
            headers={"WWW-Authenticate": INVALID_TOKEN} if is_bearer else {},
        )
    return token
