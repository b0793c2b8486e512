"""Why a request is not answered, in words for whoever sent it."""


class Refused(Exception):
    """A request that is refused.

    Attributes:
        status: Of HTTP.
        code: A word for programs.
        message: A sentence for people.
    """

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def content(self) -> dict[str, dict[str, str]]:
        """Return it in JSON's types."""
        return {"error": {"code": self.code, "message": self.message}}
