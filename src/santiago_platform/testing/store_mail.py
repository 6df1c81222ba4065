"""The contract of ports.store.Store for mail."""

from __future__ import annotations

from datetime import timedelta

from ..domain.delivery import Delivery, DeliveryState
from ..domain.identity import PLATFORM, Role
from ..ports.store import Snapshot, Store, Transaction
from .rows import ANN, START, mail


class MailRowsContract:
    """A subclass supplies the fixture `store`: an empty one, closed afterwards."""

    async def test_mail_is_found_newest_first_by_its_mailbox_and_whether_it_was_acknowledged(
        self, store: Store
    ) -> None:
        rows = [mail(1), mail(2), mail(3, mailbox=Role.PM), mail(4, tenant="other"), mail(5)]

        def unit(tx: Transaction) -> None:
            for row in rows:
                tx.add_mail(row)
            tx.save_mail(rows[1].acknowledged("quinn", START))

        await store.write(unit)

        def look(view: Snapshot) -> list[list[str]]:
            qa = ("default", Role.QA)
            pages = [
                view.mail(*qa, unread=True),
                view.mail(*qa, unread=True, limit=1),
                view.mail(*qa, unread=True, before="ml-5"),
                view.mail(*qa, unread=False),
                view.mail(*qa, unread=False, before="ml-5"),
                view.mail(*qa, unread=True, before="ml-gone"),
                view.mail("default", Role.PM, unread=True),
            ]
            return [[found.id for found in page] for page in pages]

        assert await store.read(look) == [["ml-5", "ml-1"], ["ml-5"], ["ml-1"], ["ml-2"], ["ml-2"], [], ["ml-3"]]
        assert await store.read(lambda v: v.unread_mail("default", Role.QA)) == 2
        assert await store.read(lambda v: v.mail_of_id("ml-2")) == [rows[1].acknowledged("quinn", START)]

    async def test_mail_of_one_id_is_once_in_each_mailbox_and_the_first_one_stays(self, store: Store) -> None:
        def unit(tx: Transaction) -> None:
            tx.add_mail(mail(1))
            tx.add_mail(mail(1, mailbox=Role.PM))
            tx.add_mail(mail(1, text="changed"))

        await store.write(unit)
        assert await store.read(lambda v: v.mail_of_id("ml-1")) == [mail(1), mail(1, mailbox=Role.PM)]
        assert await store.read(lambda v: v.mail_of_id("ml-2")) == []

    async def test_what_was_sent_is_counted_by_sender_and_found_by_key(self, store: Store) -> None:
        def unit(tx: Transaction) -> None:
            for number in (1, 2, 3):
                tx.add_mail(mail(number, key="disk"))
            tx.add_mail(mail(3, key="disk", mailbox=Role.PM))
            tx.add_mail(mail(4, key="disk", tenant="other"))
            tx.add_mail(mail(5, sender=PLATFORM))

        await store.write(unit)
        since = START + timedelta(seconds=2)
        assert await store.read(lambda v: v.mail_sent("default", ANN.name, since)) == 2
        found = await store.read(lambda v: v.mail_of_key("default", "disk", since=since))
        assert sorted((m.id, m.mailbox) for m in found) == [("ml-2", "qa"), ("ml-3", "pm"), ("ml-3", "qa")]
        assert found[-1].id == "ml-2"

    async def test_old_mail_is_removed_a_few_at_a_time(self, store: Store) -> None:
        def unit(tx: Transaction) -> None:
            for number in range(1, 6):
                tx.add_mail(mail(number))

        await store.write(unit)
        before = START + timedelta(seconds=4)
        assert await store.write(lambda tx: tx.prune_mail(before, limit=2)) == 2
        assert await store.write(lambda tx: tx.prune_mail(before, limit=2)) == 1
        assert await store.write(lambda tx: tx.prune_mail(before, limit=2)) == 0
        left = await store.read(lambda v: v.mail("default", Role.QA, unread=True))
        assert [m.id for m in left] == ["ml-5", "ml-4"]

    async def test_deliveries_are_found_by_their_state_in_the_order_in_which_they_are_due(self, store: Store) -> None:
        def delivery(number: int) -> Delivery:
            at = START + timedelta(seconds=number)
            return Delivery(id=f"dl-{number}", mail="ml-1", tenant="default", receiver="chat", next_at=at, at=at)

        def unit(tx: Transaction) -> None:
            for number in (3, 1, 2, 4):
                tx.add_delivery(delivery(number))
            tx.add_delivery(delivery(1).given_up("first one stays"))
            tx.save_delivery(delivery(4).delivered())

        await store.write(unit)

        def ids(view: Snapshot) -> list[list[str]]:
            due = START + timedelta(seconds=2)
            found = [
                view.deliveries(state=DeliveryState.PENDING),
                view.deliveries(state=DeliveryState.PENDING, due=due),
                view.deliveries(state=DeliveryState.PENDING, limit=1),
                view.deliveries(state=DeliveryState.DELIVERED),
            ]
            return [[d.id for d in page] for page in found]

        assert await store.read(ids) == [["dl-1", "dl-2", "dl-3"], ["dl-1", "dl-2"], ["dl-1"], ["dl-4"]]
        await store.write(lambda tx: tx.prune_mail(START + timedelta(seconds=3), limit=10))
        assert await store.read(ids) == [["dl-3"], [], ["dl-3"], ["dl-4"]]
