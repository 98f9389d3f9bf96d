"""The key of a question → the answer given before: kept in memory, in SQLite, or in Redis.

cache   what a pipeline is given: finds and keeps, whatever becomes of the store
record  an answer → bytes with a checksum, and back; anything else → nothing
store   what a store has to do, and how long its keys live
guard   a store that may be slow, broken or gone → one that is neither, on threads of its own
memory, sqlite, redis   the stores
"""

from glmflash.answers.cache import AnswerCache
from glmflash.answers.memory import MemoryAnswers
from glmflash.answers.redis import RedisAnswers
from glmflash.answers.sqlite import SQLiteAnswers
from glmflash.answers.store import AnswerStore

__all__ = ["AnswerCache", "AnswerStore", "MemoryAnswers", "RedisAnswers", "SQLiteAnswers"]


def __dir__() -> list[str]:
    return __all__
