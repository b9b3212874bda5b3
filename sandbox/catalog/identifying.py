"""Tax ids of businesses: their types, what each looks like, and whether a register confirms it."""

import re

from sandbox.errors import ApiError

# https://docs.stripe.com/billing/customer/tax-ids
TYPES = tuple(
    """
    ad_nrt ae_trn al_tin am_tin ao_tin ar_cuit au_abn au_arn aw_tin az_tin ba_tin bb_tin bd_bin bf_ifu
    bg_uic bh_vat bj_ifu bo_tin br_cnpj br_cpf bs_tin by_tin ca_bn ca_gst_hst ca_pst_bc ca_pst_mb
    ca_pst_sk ca_qst cd_nif ch_uid ch_vat cl_tin cm_niu cn_tin co_nit cr_tin cv_nif de_stn do_rcn ec_ruc
    eg_tin es_cif et_tin eu_oss_vat eu_vat fo_vat gb_vat ge_vat gi_tin gn_nif hk_br hr_oib hu_tin
    id_npwp il_vat in_gst is_vat it_cf jp_cn jp_rn jp_trn ke_pin kg_tin kh_tin kr_brn kz_bin la_tin
    li_uid li_vat lk_vat ma_vat md_vat me_pib mk_vat mr_nif mx_rfc my_frp my_itn my_sst ng_tin no_vat
    no_voec np_pan nz_gst om_vat pe_ruc ph_tin pl_nip py_ruc ro_tin rs_pib ru_inn ru_kpp sa_vat sg_gst
    sg_uen si_tin sn_ninea sr_fin sv_nit th_vat tj_tin tr_tin tw_vat tz_vat ua_vat ug_tin us_ein uy_ruc
    uz_tin uz_vat ve_rif vn_tin za_vat zm_tin zw_tin
    """.split()  # noqa: SIM905 (a page of quotes and commas otherwise)
)
# After the two letters of the country.
EU_VAT = {
    "AT": r"U\d{8}",
    "BE": r"[01]\d{9}",
    "BG": r"\d{9,10}",
    "CY": r"\d{8}[A-Z]",
    "CZ": r"\d{8,10}",
    "DE": r"\d{9}",
    "DK": r"\d{8}",
    "EE": r"\d{9}",
    "EL": r"\d{9}",
    "ES": r"[A-Z0-9]\d{7}[A-Z0-9]",
    "FI": r"\d{8}",
    "FR": r"[A-Z0-9]{2}\d{9}",
    "HR": r"\d{11}",
    "HU": r"\d{8}",
    "IE": r"\d[A-Z0-9]\d{5}[A-Z]{1,2}",
    "IT": r"\d{11}",
    "LT": r"\d{9}|\d{12}",
    "LU": r"\d{8}",
    "LV": r"\d{11}",
    "MT": r"\d{8}",
    "NL": r"\d{9}B\d{2}",
    "PL": r"\d{10}",
    "PT": r"\d{9}",
    "RO": r"\d{2,10}",
    "SE": r"\d{12}",
    "SI": r"\d{8}",
    "SK": r"\d{10}",
    "XI": r"\d{9}",
}
OTHERS = {
    "au_abn": r"\d{11}",
    "br_cnpj": r"\d{2}\.?\d{3}\.?\d{3}/?\d{4}-?\d{2}",
    "ca_bn": r"\d{9}",
    "ca_gst_hst": r"\d{9}RT\d{4}",
    "ch_vat": r"CHE-?\d{3}\.?\d{3}\.?\d{3} ?(MWST|TVA|IVA)",
    "gb_vat": r"GB(\d{9}|\d{12}|GD\d{3}|HA\d{3})",
    "in_gst": r"\d{2}[A-Z]{5}\d{4}[A-Z][0-9A-Z]Z[0-9A-Z]",
    "jp_cn": r"\d{13}",
    "no_vat": r"\d{9}MVA",
    "nz_gst": r"\d{2,3}-?\d{3}-?\d{3}",
    "us_ein": r"\d{2}-?\d{7}",
}
# Types that Stripe looks up in a public register; about others it says `unavailable`.
VERIFIED = frozenset({"au_abn", "eu_vat", "gb_vat"})


def check_tax_id(type: str, value: str, *, param: str = "value") -> str:
    """Return the value as it is kept. Raises ApiError (`tax_id_invalid`) for one that cannot be of its type."""
    kept = value.strip().upper() if type in OTHERS or type == "eu_vat" else value.strip()
    if type == "eu_vat":
        kept = kept.replace(" ", "")
        fits = kept[:2] in EU_VAT and re.fullmatch(EU_VAT[kept[:2]], kept[2:], re.ASCII)
    else:
        fits = re.fullmatch(OTHERS.get(type, r"\S.{1,49}"), kept, re.ASCII)
    if not fits:
        raise ApiError(f"Invalid value for {type}.", code="tax_id_invalid", param=param)
    return kept


def country_of(type: str, value: str) -> str | None:
    """Return the country a tax id belongs to, as Stripe shows it."""
    if type == "eu_vat":
        return {"EL": "GR", "XI": "GB"}.get(value[:2], value[:2])
    return None if type.startswith("eu_") else type[:2].upper()


def verified(value: str) -> str:
    """Return what the register says: as in Stripe's test mode all ones fail, all twos stay pending."""
    digits = set(re.findall(r"\d", value))
    if digits == {"1"}:
        return "unverified"
    return "pending" if digits == {"2"} else "verified"
