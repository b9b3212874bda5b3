"""The countries an address can be in, and the kind of tax id each has."""

_NAMES = (
    "AF Afghanistan;AL Albania;DZ Algeria;AD Andorra;AO Angola;AI Anguilla;AQ Antarctica;AG Antigua "
    "and Barbuda;AR Argentina;AM Armenia;AW Aruba;AU Australia;AT Austria;AZ Azerbaijan;BS Bahamas;BH "
    "Bahrain;BD Bangladesh;BB Barbados;BY Belarus;BE Belgium;BZ Belize;BJ Benin;BM Bermuda;BT "
    "Bhutan;BO Bolivia;BA Bosnia and Herzegovina;BW Botswana;BV Bouvet Island;BR Brazil;IO British "
    "Indian Ocean Territory;BN Brunei;BG Bulgaria;BF Burkina Faso;BI Burundi;KH Cambodia;CM "
    "Cameroon;CA Canada;CV Cape Verde;BQ Caribbean NL;KY Cayman Islands;CF Central African Rep.;TD "
    "Chad;CL Chile;CN China;CO Colombia;KM Comoros;CG Congo (Brazzaville);CD Congo (Kinshasa);CK Cook "
    "Islands;CR Costa Rica;HR Croatia;CW Curaçao;CY Cyprus;CZ Czechia;CI Côte d'Ivoire;DK Denmark;DJ "
    "Djibouti;DM Dominica;DO Dominican Republic;TL East Timor;EC Ecuador;EG Egypt;SV El Salvador;GQ "
    "Equatorial Guinea;ER Eritrea;EE Estonia;SZ Eswatini (Swaziland);ET Ethiopia;FK Falkland "
    "Islands;FO Faroe Islands;FJ Fiji;FI Finland;FR France;GF French Guiana;PF French Polynesia;TF "
    "French S. Terr.;GA Gabon;GM Gambia;GE Georgia;DE Germany;GH Ghana;GI Gibraltar;GR Greece;GL "
    "Greenland;GD Grenada;GP Guadeloupe;GU Guam;GT Guatemala;GG Guernsey;GN Guinea;GW "
    "Guinea-Bissau;GY Guyana;HT Haiti;HN Honduras;HK Hong Kong;HU Hungary;IS Iceland;IN India;ID "
    "Indonesia;IQ Iraq;IE Ireland;IM Isle of Man;IL Israel;IT Italy;JM Jamaica;JP Japan;JE Jersey;JO "
    "Jordan;KZ Kazakhstan;KE Kenya;KI Kiribati;KW Kuwait;KG Kyrgyzstan;LA Laos;LV Latvia;LB "
    "Lebanon;LS Lesotho;LR Liberia;LY Libya;LI Liechtenstein;LT Lithuania;LU Luxembourg;MO Macau;MG "
    "Madagascar;MW Malawi;MY Malaysia;MV Maldives;ML Mali;MT Malta;MQ Martinique;MR Mauritania;MU "
    "Mauritius;YT Mayotte;MX Mexico;MD Moldova;MC Monaco;MN Mongolia;ME Montenegro;MS Montserrat;MA "
    "Morocco;MZ Mozambique;MM Myanmar;NA Namibia;NR Nauru;NP Nepal;NL Netherlands;NC New Caledonia;NZ "
    "New Zealand;NI Nicaragua;NE Niger;NG Nigeria;NU Niue;MK North Macedonia;NO Norway;OM Oman;PK "
    "Pakistan;PS Palestine;PA Panama;PG Papua New Guinea;PY Paraguay;PE Peru;PH Philippines;PN "
    "Pitcairn;PL Poland;PT Portugal;PR Puerto Rico;QA Qatar;RO Romania;RU Russia;RW Rwanda;RE "
    "Réunion;BL Saint Barthelemy;SH Saint Helena;KN Saint Kitts and Nevis;LC Saint Lucia;SX Saint "
    "Maarten (Dutch);MF Saint Martin (French);PM Saint Pierre and Miquelon;VC Saint Vincent;WS Samoa "
    "(western);SM San Marino;ST Sao Tome and Principe;SA Saudi Arabia;SN Senegal;RS Serbia;SC "
    "Seychelles;SL Sierra Leone;SG Singapore;SK Slovakia;SI Slovenia;SB Solomon Islands;SO Somalia;ZA "
    "South Africa;GS South Georgia and the South Sandwich Islands;KR South Korea;SS South Sudan;ES "
    "Spain;LK Sri Lanka;SD Sudan;SR Suriname;SJ Svalbard and Jan Mayen;SE Sweden;CH Switzerland;TW "
    "Taiwan;TJ Tajikistan;TZ Tanzania;TH Thailand;TG Togo;TK Tokelau;TO Tonga;TT Trinidad and "
    "Tobago;TN Tunisia;TR Turkey;TM Turkmenistan;TC Turks and Caicos Is;TV Tuvalu;UG Uganda;UA "
    "Ukraine;AE United Arab Emirates;GB United Kingdom;US United States;UY Uruguay;UZ Uzbekistan;VU "
    "Vanuatu;VA Vatican City;VE Venezuela;VN Vietnam;VG Virgin Islands (UK);WF Wallis and Futuna;EH "
    "Western Sahara;YE Yemen;ZM Zambia;ZW Zimbabwe;AX Åland Islands"
)
# Code -> name, sorted by name.
COUNTRIES: dict[str, str] = dict(each.split(" ", 1) for each in _NAMES.split(";"))
_EU = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU = frozenset(_EU.split(" "))
_TAX_IDS = {
    "AE": "ae_trn",
    "AU": "au_abn",
    "BR": "br_cnpj",
    "CA": "ca_bn",
    "CH": "ch_vat",
    "CL": "cl_tin",
    "GB": "gb_vat",
    "HK": "hk_br",
    "ID": "id_npwp",
    "IL": "il_vat",
    "IN": "in_gst",
    "IS": "is_vat",
    "JP": "jp_trn",
    "KR": "kr_brn",
    "LI": "li_vat",
    "MX": "mx_rfc",
    "MY": "my_sst",
    "NO": "no_vat",
    "NZ": "nz_gst",
    "SA": "sa_vat",
    "SG": "sg_gst",
    "TH": "th_vat",
    "TR": "tr_tin",
    "TW": "tw_vat",
    "UA": "ua_vat",
    "US": "us_ein",
    "ZA": "za_vat",
}


def tax_id_type(country: str) -> str | None:
    """Return Stripe's name for the tax id of a country's businesses, None where it takes none."""
    return "eu_vat" if country in EU else _TAX_IDS.get(country)
