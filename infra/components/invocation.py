"""How API Gateway names the functions that it calls."""

from __future__ import annotations


def build_invocation_uri(function: str) -> str:
    """The URI by which API Gateway calls a function.

    Args:
        function: the name of a function of the API's account and region, with `:` and an alias if
            the alias is called; or the ARN of any function.
    """
    arn = (
        function
        if function.startswith("arn:")
        else "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:" + function
    )
    return (
        "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/"
        f"{arn}/invocations"
    )
