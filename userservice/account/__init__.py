"""The page /account, to which the links in e-mails lead: new password, confirmed address."""
