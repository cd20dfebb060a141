from reports.wording import *
