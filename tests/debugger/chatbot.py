"""Rows of a chat bot's training data, generated: 20 intents, wrong labels, usages, rows without a label.

They have the form in which annotation tools export them: objects whose `data` is JSON in a string.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

INTENTS = {
    "balance": "how much money is in my account|what is my balance|show me the balance of {x}",
    "transfer": "send money to {x}|transfer funds to {x}|wire fifty dollars to {x}",
    "card_lost": "i lost my card in {x}|my card was stolen in {x}|someone took my credit card",
    "pin": "i forgot my pin|change the pin of my card|reset my pin number please",
    "bill_due": "when is my {x} bill due|what day must i pay the {x} bill|due date of the {x} bill",
    "visa": "do i need a visa for {x}|what visa do i need to enter {x}|are visas needed for {x}",
    "weather": "will it rain in {x} tomorrow|what is the weather in {x}|how hot is it in {x}",
    "flight": "book a flight to {x}|find me a plane to {x}|i want to fly to {x} next week",
    "hotel": "reserve a hotel room in {x}|find me a hotel in {x}|i need a place to stay in {x}",
    "louder": "please speak louder|i cannot hear you speak up|raise the volume of your voice",
    "mute": "be quiet now|mute yourself|stop talking and mute the sound",
    "joke": "tell me a joke about {x}|say something funny|make me laugh with a joke",
    "timer": "set a timer for ten minutes|start a countdown of {x} minutes|timer for the oven",
    "alarm": "wake me up at seven|set an alarm for the morning|i need an alarm for {x}",
    "recipe": "how do i cook {x}|give me a recipe for {x}|what goes into {x} soup",
    "calories": "how many calories are in {x}|is {x} fattening|calories of a bowl of {x}",
    "translate": "how do you say {x} in spanish|translate {x} into french|what is {x} in german",
    "spelling": "how is {x} spelled|spell {x} for me|what is the spelling of {x}",
    "insurance": "does my insurance cover {x}|explain my insurance benefits|change my insurance plan",
    "goodbye": "goodbye for now|see you later|thanks and bye",
}
WORDS = [
    "cuba",
    "berlin",
    "peru",
    "rice",
    "pasta",
    "electricity",
    "water",
    "mother",
    "paris",
    "oslo",
    "kenya",
]
ENDINGS = [
    "",
    " please",
    " today",
    " right now",
    " thank you",
    " for me",
    " again",
    " my friend",
    " if you can",
]


@dataclass(frozen=True)
class Chat:
    """Generated rows.

    Attributes
    ----------
    records
        As an annotation tool exports them.
    truth
        The right label of each row.
    wrong
        Rows with another label.
    """

    records: list[dict[str, Any]]
    truth: list[str]
    wrong: list[int]

    @property
    def labels(self) -> list[str]:
        return [json.loads(record["data"])["intent"] for record in self.records]

    @property
    def texts(self) -> list[str]:
        return [json.loads(record["data"])["text"] for record in self.records]


def generate_chat(
    rows: int = 400, *, seed: int = 0, wrong_share: float = 0.05, unlabelled: float = 0.1
) -> Chat:
    """Generate rows of 20 intents, the same for the same arguments."""
    draw = random.Random(seed)
    names = list(INTENTS)
    records, truth, wrong = [], [], []
    for row in range(rows):
        intent = draw.choice(names)
        said = draw.choice(INTENTS[intent].split("|")).replace("{x}", draw.choice(WORDS))
        complete = draw.random() >= unlabelled
        label = intent if complete else ""
        if complete and draw.random() < wrong_share:
            label = draw.choice([name for name in names if name != intent])
            wrong.append(row)
        usage = draw.choices(["training", "validation", "testing"], [8, 1, 1])[0] if complete else None
        records.append(
            {
                "id": 600_000 + row,
                "project_id": 411,
                "complete": complete,
                "usage": usage,
                "score": draw.random() * 0.7,
                "data": json.dumps({"text": said + draw.choice(ENDINGS), "intent": label}),
            }
        )
        truth.append(intent)
    return Chat(records, truth, wrong)
