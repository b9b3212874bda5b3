"""Publishing from the back office: see what it would do at Stripe, agree, and it is done."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from billing.errors import BillingError, PreviewOutdated, StripeUnavailable
from billing.models import Meter, Plan
from billing.publication import CreateMeter, Publication, UpdateMeter
from billing.stripe.catalog import preview_publication, publish
from billing.stripe.catalog_reading import find_price_id

UNREACHABLE = "Stripe cannot be reached right now. Nothing is lost: try again in a moment."


class AdoptForm(forms.Form):
    reference = forms.CharField(
        label="Price id or lookup key",
        max_length=255,
        help_text="As Stripe's dashboard shows it: price_…, or the price's lookup key.",
        widget=UnfoldAdminTextInputWidget,
    )


class PublicationPages(ModelAdmin):
    """Of pages from which something is published: see what it does, and agree."""

    def show_publication(
        self,
        request: HttpRequest,
        plans: Sequence[Plan],
        *,
        title: str,
        back: str,
        meters: Sequence[Meter] = (),
        adopting: dict[str, str] | None = None,
        verb: str = "Publish",
    ) -> HttpResponse:
        """Show what is to be done, or do what was agreed to. A list that has changed since is shown anew."""
        outdated = ""
        if request.method == "POST":
            try:
                digest = request.POST.get("digest", "")
                done = publish(plans, meters=meters, adopting=adopting, digest=digest)
            except PreviewOutdated as changed:
                outdated = str(changed)
            except StripeUnavailable:
                messages.error(
                    request, f"{UNREACHABLE} What was done until then is done, and not done twice."
                )
                return HttpResponseRedirect(request.get_full_path())
            except BillingError as refusal:
                messages.error(request, f"Stripe refused: {refusal}")
                return HttpResponseRedirect(request.get_full_path())
            else:
                self.log_publication(request, plans, meters, done)
                count = len(done.changes)
                messages.success(
                    request, f"Published: {count} change{'s' if count > 1 else ''}, as listed in the history."
                )
                return HttpResponseRedirect(back)
        publication, error = Publication(), ""
        try:
            publication = preview_publication(plans, meters=meters, adopting=adopting)
        except StripeUnavailable:
            error = UNREACHABLE
        except BillingError as refusal:
            error = f"Stripe refused: {refusal}"
        if outdated and publication.is_empty and not error:
            # Somebody else has pressed the same button, or the same person twice.
            messages.success(request, "It was published already: nothing is left to do.")
            return HttpResponseRedirect(back)
        context = {
            "publication": publication,
            "error": error,
            "outdated": outdated,
            "verb": verb,
            "back": back,
        }
        subjects: list[Plan | Meter] = [*plans, *meters]
        context |= self.page_context(
            request, title=title, subject=subjects[0] if len(subjects) == 1 else None
        )
        return TemplateResponse(
            request, "admin/billing/plan/publish.html", context, status=503 if error else 200
        )

    def log_publication(
        self, request: HttpRequest, plans: Sequence[Plan], meters: Sequence[Meter], done: Publication
    ) -> None:
        for plan in plans:
            mine = [each for each in done.changes if each.plan == plan.slug or len(plans) == 1]
            if mine:
                self.log_change(request, plan, f"Published. {sentences(Publication(tuple(mine)))}")
        for meter in meters:
            of_it = [
                each
                for each in done.changes
                if isinstance(each, CreateMeter | UpdateMeter) and each.slug == meter.slug
            ]
            if of_it:
                self.log_change(request, meter, f"Published. {sentences(Publication(tuple(of_it)))}")

    def page_context(
        self, request: HttpRequest, *, title: str, subject: Plan | Meter | None
    ) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "original": subject,
        }


class PublishingViews(PublicationPages):
    """Of the plans' pages: Publish, Publish all, and Adopt an existing price."""

    @action(description="Publish…", url_path="publish", icon="cloud_upload", permissions=["change"])
    def publish(self, request: HttpRequest, object_id: str) -> HttpResponse:
        plan = self.find_plan(request, object_id)
        back = reverse("admin:billing_plan_change", args=[plan.pk])
        return self.show_publication(request, [plan], title=f"Publish {plan}", back=back)

    @action(description="Publish all…", url_path="publish", icon="cloud_upload", permissions=["change"])
    def publish_all(self, request: HttpRequest) -> HttpResponse:
        back = reverse("admin:billing_plan_changelist")
        plans, meters = list(Plan.objects.all()), list(Meter.objects.all())
        return self.show_publication(request, plans, meters=meters, title="Publish all plans", back=back)

    @action(description="Adopt a price…", url_path="adopt", icon="input", permissions=["change"])
    def adopt(self, request: HttpRequest, object_id: str) -> HttpResponse:
        plan = self.find_plan(request, object_id)
        form = AdoptForm(request.GET if "reference" in request.GET else None)
        back = reverse("admin:billing_plan_change", args=[plan.pk])
        title = f"Adopt a price that Stripe has as the fee of {plan}"
        if form.is_valid():
            reference = form.cleaned_data["reference"].strip()
            try:
                price_id = find_price_id(reference)
            except StripeUnavailable:
                form.add_error(None, UNREACHABLE)
            except BillingError as error:
                form.add_error(None, str(error))
            else:
                if price_id:
                    adopting = {plan.slug: price_id}
                    return self.show_publication(
                        request, [plan], adopting=adopting, title=title, back=back, verb="Adopt and publish"
                    )
                form.add_error("reference", f"Stripe has no price with the id or lookup key {reference}.")
        context = {"form": form, "back": back, **self.page_context(request, title=title, subject=plan)}
        return TemplateResponse(request, "admin/billing/plan/adopt.html", context)

    def find_plan(self, request: HttpRequest, object_id: str) -> Plan:
        plan = self.get_object(request, object_id)
        if plan is None:
            raise Http404(f"There is no plan {object_id}.")
        if not self.has_change_permission(request, plan):
            raise PermissionDenied
        return plan


def sentences(publication: Publication) -> str:
    return " ".join(change.sentence for change in publication.changes) or "there was nothing to change."
