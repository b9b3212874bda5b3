"""Removals of fields done together: the same tables and the same models as one by one."""

from collections.abc import Iterable
from typing import Any

import pytest
from django.core.management import get_commands
from django.db import connection, migrations, models
from django.db.migrations import Migration
from django.db.migrations.state import ProjectState

from billing.migrating import RemoveFields, grouped

pytestmark = pytest.mark.django_db
APP = "made_up"


def before() -> list[Any]:
    return [
        migrations.CreateModel("Shelf", [("id", models.BigAutoField(primary_key=True))]),
        migrations.CreateModel(
            "Book",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("title", models.CharField(max_length=20)),
                ("pages", models.IntegerField(db_index=True)),
                ("isbn", models.CharField(max_length=13, unique=True)),
                ("shelf", models.ForeignKey(f"{APP}.Shelf", models.CASCADE)),
            ],
        ),
    ]


def removals() -> list[Any]:
    return [migrations.RemoveField("Book", name) for name in ("pages", "isbn", "shelf")]


def apply(operations: Iterable[Any]) -> tuple[set[str], set[str], set[str]]:
    """Migrate; return the columns of the table, its constraints, and the fields that the model has afterwards."""
    migration = Migration("0001", APP)
    migration.operations = list(operations)
    with connection.schema_editor(atomic=False) as editor:
        state = ProjectState()
        _ = state.apps  # Rendered, as it is in a real run.
        state = migration.apply(state, editor)
    with connection.cursor() as cursor:
        columns = {
            each.name for each in connection.introspection.get_table_description(cursor, "made_up_book")
        }
        constraints = connection.introspection.get_constraints(cursor, "made_up_book")
    fields = {field.name for field in state.apps.get_model(APP, "Book")._meta.get_fields()}
    return columns, {" ".join(each["columns"]) for each in constraints.values()}, fields


def drop() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE made_up_book, made_up_shelf")


def test_they_leave_the_same_table_and_the_same_model():
    operations = [*before(), *removals()]
    plain = apply(operations)
    drop()

    assert apply(grouped(operations)) == plain
    assert (plain[0], plain[2]) == ({"id", "title"}, {"id", "title"})


def test_what_follows_them_finds_the_models_as_they_are():
    seen = []

    def look(apps: Any, editor: Any) -> None:
        seen.append(list(apps.get_model(APP, "Book").objects.values()))

    operations = [
        *before(),
        *removals(),
        migrations.RunPython(look),
        migrations.AddField("Book", "pages", models.CharField(max_length=5, default="")),
        migrations.RemoveField("Book", "title"),
    ]

    assert apply(grouped(operations))[0] == {"id", "pages"}
    assert seen == [[]]


def test_only_removals_that_follow_one_another_are_grouped():
    first, second, third = removals()
    between = migrations.RunSQL("SELECT 1")

    together, barrier, alone = grouped([first, second, between, third])

    assert isinstance(together, RemoveFields)
    assert together.removals == [first, second]
    assert (barrier, alone) == (between, third)


def test_they_can_be_taken_back():
    migration = Migration("0001", APP)
    migration.operations = list(grouped([*before(), *removals()]))
    with connection.schema_editor(atomic=False) as editor:
        migration.apply(ProjectState(), editor)
    with connection.schema_editor(atomic=False) as editor:
        migration.unapply(ProjectState(), editor)

    assert "made_up_book" not in connection.introspection.table_names()


def test_it_is_what_manage_py_migrate_runs():
    assert get_commands()["migrate"] == "billing"
