"""Python functions → tools that the model may call, and the loop that calls them.

hints     a type hint → a JSON schema, and JSON values → values of that type
describe  a function → the tool object that tells the model of it, and a call of it with checked arguments
returned  what a function returned → the content of a tool message: text, JSON, pictures
run       a question and functions → the answer, with the calls that were made on the way
"""

from glmflash.tools.describe import tool
from glmflash.tools.run import Called, ToolRun, run_tools

__all__ = ["Called", "ToolRun", "run_tools", "tool"]


def __dir__() -> list[str]:
    return __all__
