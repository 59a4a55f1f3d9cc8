"""An application with SQLAlchemy and its pool: `sqlalchemy_app.py FILE COMMAND`. Each answer is one line of JSON."""

import json
import sys

from sqlalchemy import create_engine, event, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

FILE, COMMAND = sys.argv[1:]
# What docs/orm.md tells to set, on primary and replica alike.
engine = create_engine(f"sqlite:///{FILE}", connect_args={"timeout": 5}, pool_size=5)


@event.listens_for(engine, "connect")
def on_connect(connection, _):
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")


@event.listens_for(engine, "begin")
def on_begin(connection):
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class Base(DeclarativeBase):
    """All tables."""


class Item(Base):
    """A row."""

    __tablename__ = "shop_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def count():
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(Item))


def write():
    with Session(engine) as session:
        session.add(Item(name="new"))
        session.commit()
    return count()


def follow():
    """Five pooled connections that stay open see what comes and goes: told by lines on stdin, answered one by one."""
    with engine.connect() as a, engine.connect() as b:
        pooled = [a, b]
        for connection in pooled:
            connection.rollback()
        print(json.dumps("ready"), flush=True)
        for _ in sys.stdin:
            seen = []
            for connection in pooled:
                columns = [row[1] for row in connection.execute(text("PRAGMA table_info(shop_item)"))]
                rows = connection.scalar(text("SELECT count(*) FROM shop_item"))
                connection.rollback()
                seen.append([rows, columns])
            print(json.dumps(seen), flush=True)


def refused(work):
    try:
        return {"answer": work()}
    except OperationalError as error:
        return {"error": str(error.orig)}


if COMMAND == "follow":
    follow()
else:
    print(json.dumps(refused({"write": write, "read": count}[COMMAND])))
