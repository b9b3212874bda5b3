"""What `make run` needs before its first page: a migrated database, plans, and someone to sign in as."""

import json
import os
import secrets
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection, transaction
from redis.exceptions import RedisError

from accounts.models import Organization, User
from apikeys.demo.errors import DemoError
from apikeys.demo.state import check_finished, logins_file
from apikeys.secret import digest
from usage.redis_client import get_redis

STAFF = "staff@tollgate.example"
CUSTOMER = "demo@tollgate.example"


class Command(BaseCommand):
    help = "Migrate, seed the plans, set Stripe up, and make a staff login and a demo customer (development only)."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("prepare_demo makes logins with known addresses: it runs with DEBUG=1 only.")
        try:
            check_finished()
        except DemoError as error:
            raise CommandError(str(error)) from error
        self.check_stores()
        self.stdout.write(
            "Migrating the database. The first time this takes about a minute, most of it in dj-stripe."
        )
        call_command("migrate", interactive=False)
        call_command("make_partitions", stdout=self.stdout)
        call_command("seed_plans", stdout=self.stdout)
        call_command("stripe_setup", stdout=self.stdout)
        path = logins_file()
        known = json.loads(path.read_text()) if path.exists() else {}
        demo = self.make_demo(known)
        # The one place where a key is kept in full: it is how the printed curl line works the next time too.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(demo, file, indent=2)

    def check_stores(self) -> None:
        """Raise CommandError with one sentence where PostgreSQL or Redis does not answer."""
        try:
            connection.ensure_connection()
        except OperationalError as error:
            raise CommandError(
                f"PostgreSQL does not answer at the address in DATABASE_URL: {error}"
            ) from None
        try:
            get_redis().ping()
        except RedisError as error:
            raise CommandError(f"Redis does not answer at the address in REDIS_URL: {error}") from None

    @transaction.atomic
    def make_demo(self, known: dict[str, str]) -> dict[str, str]:
        demo = {
            "staff_email": STAFF,
            "staff_password": known.get("staff_password") or secrets.token_urlsafe(9),
            "customer_email": CUSTOMER,
            "customer_password": known.get("customer_password") or secrets.token_urlsafe(9),
        }
        if not User.objects.filter(email=STAFF).exists():
            self.add_verified(User.objects.create_superuser(STAFF, demo["staff_password"]))
        customer = User.objects.filter(email=CUSTOMER).first()
        if customer is None:
            customer = User.objects.create_user(CUSTOMER, demo["customer_password"])
            self.add_verified(customer)
            Organization.objects.open(name="Demo Inc.", owner=customer)
        # A lost file (or a database kept from another place) must not leave a printed login that fails.
        for email, password in [(STAFF, demo["staff_password"]), (CUSTOMER, demo["customer_password"])]:
            user = User.objects.get(email=email)
            if not user.check_password(password):
                user.set_password(password)
                user.save(update_fields=["password"])
        organization = Organization.objects.filter(memberships__user=customer).earliest("created_at")
        secret = known.get("api_key", "")
        if not organization.api_keys.active().filter(digest=digest(secret)).exists():
            _, secret = organization.api_keys.issue(organization=organization, name="Demo", user=customer)
        return {**known, **demo, "api_key": secret}

    def add_verified(self, user: User) -> None:
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
