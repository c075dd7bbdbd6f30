"""Where webhooks go: number override, else WABA override, else the app's callback; nowhere without a subscription."""

from meta_emulator.emulator import Emulator
from meta_emulator.model import Number, Waba


def callback_for(em: Emulator, number: Number) -> str | None:
    """The callback for message webhooks of a number; None when its WABA has no subscribed app."""
    subscription = em.waba_of(number).subscription
    if subscription is None:
        return None
    return number.override_callback_uri or subscription.override_callback_uri or em.callback_url


def account_callback_for(em: Emulator, waba: Waba) -> str | None:
    """Template and account fields always go to the app's own callback."""
    return em.callback_url if waba.subscription is not None else None
