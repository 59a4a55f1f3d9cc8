"""A Django application with one model: `django_app.py FILE COMMAND`. Each answer is one line of JSON."""

import json
import sys
import types

import django
from django.conf import settings

FILE, COMMAND = sys.argv[1:]
# What docs/orm.md tells to set, on primary and replica alike.
settings.configure(
    INSTALLED_APPS=["shop"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": FILE,
            "OPTIONS": {"timeout": 5, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;"},
        }
    },
)
shop = types.ModuleType("shop")
shop.__path__ = [__file__.rsplit("/", 1)[0] + "/shop"]
sys.modules["shop"] = shop
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.db.utils import OperationalError  # noqa: E402


class Item(models.Model):
    """A row."""

    name = models.TextField()

    class Meta:
        """Its migration makes it."""

        app_label = "shop"


def write():
    with transaction.atomic():
        Item.objects.create(name="new")
    return Item.objects.count()


def read():
    # Within IMMEDIATE, as ATOMIC_REQUESTS makes every view.
    with transaction.atomic():
        return Item.objects.count()


def migrate():
    call_command("migrate", verbosity=0)
    return connection.introspection.table_names()


def refused(work):
    try:
        return {"answer": work()}
    except OperationalError as error:
        return {"error": str(error)}


print(json.dumps(refused({"write": write, "read": read, "migrate": migrate}[COMMAND])))
